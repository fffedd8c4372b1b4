package main

func api() dashboard {
	const served = `route!="/api/ws"`
	users := `route!~"/api/(health|metrics|docs).*"`
	slow := "histogram_quantile(0.99, " + sum(own(perSecond("http_request_duration_seconds_bucket", users)), "route, le") + ")"
	return dashboard{
		uid: "parley-api", title: "API", about: "Requests, their statuses and durations, limits.",
		rows: []row{
			{"Requests", []panel{
				lines("By status", requests, "Requests a second.", query{sum(own(perSecond("http_requests_total")), "status"), "{{status}}"}).stack(),
				lines("By route", requests, "The ten routes with the most requests.",
					query{"topk(10, " + sum(own(perSecond("http_requests_total")), "method, route") + ")", "{{method}} {{route}}"}),
				lines("Share of 5xx", share, "The objective is 0.1 % at most. Probes, metrics and docs are left out.",
					query{"(" + sum(own(perSecond("http_requests_total", users, `status=~"5.."`)), "") + " or vector(0)) / " +
						sum(own(perSecond("http_requests_total", users)), ""), "5xx"}).over(0.001).runbook("ParleyAvailabilityBurn"),
			}},
			{"Duration", []panel{
				lines("All routes", seconds, "The objective is 99 % within 0.3 s. Socket upgrades, probes, metrics and docs are left out.",
					quantilesOf(own(perSecond("http_request_duration_seconds_bucket", users)))...).over(0.3).runbook("ParleyLatencyBurn"),
				lines("Slowest routes, p99", seconds, "The ten slowest.", query{"topk(10, " + slow + ")", "{{route}}"}).over(0.3).runbook("ParleyLatencyBurn"),
				lines("Share over 0.3 s, by pod", share, "One pod that stands out is ill; all of them together wait for a database.",
					query{"1 - " + sum(own(perSecond("http_request_duration_seconds_bucket", users, `le="0.3"`)), "pod, instance") + " / " +
						"(" + sum(own(perSecond("http_request_duration_seconds_count", users)), "pod, instance") + " > 0)", "{{pod}} {{instance}}"}).
					over(0.01).runbook("ParleyLatencyBurn"),
			}},
			{"Messages", []panel{
				lines("Stored and refused", perSec, "Messages that were stored, and sends refused because too many waited.",
					rate("parley_messages_accepted_total", "", "stored"), rate("parley_messages_refused_busy_total", "", "refused")).runbook("ParleySendsRefused"),
				lines("Commit", seconds, "Duration of a group commit.", quantiles("parley_message_commit_seconds")...).over(0.5).runbook("ParleyCommitsSlow"),
				lines("Batches and queue", count, "Messages per commit, on average, and sends that wait for theirs (2048 at most a pod).",
					query{sum(perSecond("parley_message_batch_size_sum"), "") + " / (" + sum(perSecond("parley_message_batch_size_count"), "") + " > 0)", "messages per commit"},
					gauge("sum", "parley_message_queue", "", "waiting")),
			}},
			{"Limits and refusals", []panel{
				lines("Refused by a limit", perSec, "Requests and frames, by rule.", rate("parley_rate_limited_total", "rule", "{{rule}}")).stack().runbook("ParleyLoginsLimited"),
				lines("Pods that count in their own memory", count, "Redis is unavailable for them: limits apply per pod.",
					gauge("sum", "parley_rate_limit_fallback", "", "pods")).over(1).runbook("ParleyLimiterOnFallback"),
				lines("Refused with 503", perSec, "A dependency was down, or the pod too busy.",
					rate("parley_requests_unavailable_total", "", "503"), rate("parley_socket_frames_failed_total", "", "frames"), query{sum(own(perSecond("http_requests_total", served, `status="429"`)), "") + " or vector(0)", "429"}).
					runbook("ParleyAvailabilityBurn"),
			}},
		},
	}
}
