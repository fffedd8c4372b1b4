package main

func webhooks() dashboard {
	return dashboard{
		uid: "parley-webhooks", title: "Webhooks and push", about: "From the commit to a product's own back end, and to devices.",
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
			{"Push notifications", []panel{
				lines("Decisions", perSec, "By outcome: sent, or why a member of a conversation gets no push.",
					rate("parley_push_decisions_total", "outcome", "{{outcome}}")).stack().runbook("ParleyPushFailing"),
				lines("Sends", perSec, "By provider and outcome.", rate("parley_push_sends_total", "provider, outcome", "{{provider}} {{outcome}}")).
					stack().runbook("ParleyPushFailing"),
				lines("Answers", seconds, "How long providers take to answer.", quantiles("parley_push_send_seconds")...).over(10).runbook("ParleyPushFailing"),
			}},
		},
	}
}
