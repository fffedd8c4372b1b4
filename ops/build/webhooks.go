package main

func webhooks() dashboard {
	return dashboard{
		uid: "parley-webhooks", title: "Webhooks", about: "From the commit to a product's own back end.",
		rows: []row{
			{"Endpoints", []panel{
				lines("Lag", seconds, "Age of the oldest change that waits, by follower of the journal. One whose receiver is down falls behind and loses nothing.",
					gauge("max", "parley_journal_lag_seconds", "consumer", "{{consumer}}")).over(60).runbook("ParleyJournalLag"),
				lines("State", count, "1 for the state that an endpoint is in.",
					gauge("max", "parley_webhook_endpoint_state", "endpoint, state", "{{endpoint}} {{state}}")).ofOne().runbook("ParleyWebhookFailing"),
				lines("Dead", count, "Events that an endpoint refused at every attempt, and that were neither retried nor dropped.",
					gauge("max", "parley_webhook_dead", "endpoint", "{{endpoint}}")).runbook("ParleyWebhookDeadLetters"),
			}},
			{"Deliveries", []panel{
				lines("Attempts", perSec, "By endpoint and outcome.", rate("parley_webhook_attempts_total", "endpoint, outcome", "{{endpoint}} {{outcome}}")).
					stack().runbook("ParleyWebhookFailing"),
				lines("Commit to first attempt", seconds, "While the endpoint answers, 99 % are to be within 2 s.",
					quantiles("parley_webhook_first_attempt_seconds")...).over(2).runbook("ParleyJournalLag"),
				lines("Since the last poll", seconds, "Time since a dispatcher last found out what is to be delivered, without an error.",
					query{"time() - max(" + selector("parley_webhook_poll_last_success_timestamp_seconds") + ")", "age"}).over(60).runbook("ParleyDispatcherStalled"),
			}},
		},
	}
}
