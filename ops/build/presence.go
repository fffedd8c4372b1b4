package main

func presence() dashboard {
	return dashboard{
		uid: "parley-presence", title: "Presence", about: "Heartbeats of the pods, sweeps of the watchers, and deliveries to sockets.",
		rows: []row{
			{"Offline", []panel{
				lines("Lag", seconds, "From a user's last deadline to the published event. The objective is 99 % within 5 s.",
					quantiles("parley_presence_offline_lag_seconds")...).over(5).runbook("ParleyOfflineLagBurn"),
				lines("Marked offline", perSec, "Users marked offline, and claims that another watcher had made before.",
					rate("parley_presence_offline_total", "", "offline"), rate("parley_presence_claims_lost_total", "", "lost claims")),
				lines("Expiries", perSec, "Expiries received from Redis, and those left to the sweep because the queue was full.",
					rate("parley_presence_expiries_total", "", "heard"), rate("parley_presence_expiries_dropped_total", "", "dropped")).runbook("ParleyExpiriesUnheard"),
			}},
			{"Watchers", []panel{
				lines("Sweeps", perSec, "Four a second by each watcher; 0 is a watcher that stands still.",
					rate("parley_presence_sweep_seconds_count", "pod, instance", "{{pod}} {{instance}}")).runbook("ParleyWatcherStalled"),
				lines("Duration of a sweep", seconds, "All deadlines that are due.", quantiles("parley_presence_sweep_seconds")...),
				lines("Errors", perSec, "Sweeps and claims that Redis did not take, and batches of last_seen_at that Postgres did not.",
					rate("parley_presence_sweep_errors_total", "", "sweeps"), rate("parley_presence_seen_errors_total", "", "last seen")).runbook("ParleySweepFailing"),
				lines("Redis nodes heard", count, "Nodes whose expiries each watcher hears; with 0 it works by the sweep alone.",
					perPod(selector("parley_presence_subscriptions_up"))).wide(12).runbook("ParleyExpiriesUnheard"),
				lines("last_seen_at", perSec, "Rows that were written.", rate("parley_presence_seen_rows_total", "", "rows")).wide(12).runbook("ParleyLastSeenFailing"),
			}},
			{"Pods", []panel{
				lines("Connections kept online", count, "Sockets of devices that the pods keep online.", gauge("sum", "parley_presence_connections", "pod, instance", "{{pod}} {{instance}}")).stack(),
				lines("Renewals", perSec, "Renewals that Redis took, and heartbeats that it did not.",
					rate("parley_presence_renewals_total", "", "renewed"), rate("parley_presence_heartbeat_errors_total", "", "failed")).runbook("ParleyHeartbeatFailing"),
				lines("Users watched", count, "Users whose presence sockets watch, by pod.", gauge("sum", "parley_presence_watched", "pod, instance", "{{pod}} {{instance}}")),
				lines("Told to sockets", perSec, "Frames of presence, by type.", rate("parley_presence_told_total", "type", "{{type}}")).wide(12),
				lines("Not delivered", perSec, "Because of privacy, because a newer state was known, and because Redis or Postgres did not reply.",
					rate("parley_presence_hidden_total", "", "hidden"), rate("parley_presence_old_total", "", "old"),
					rate("parley_presence_tell_errors_total", "", "errors")).wide(12).runbook("ParleyPresenceUntold"),
			}},
		},
	}
}
