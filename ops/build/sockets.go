package main

func sockets() dashboard {
	return dashboard{
		uid: "parley-sockets", title: "Sockets and delivery", about: "Connections, frames, and the way of events from the commit to the socket.",
		rows: []row{
			{"Connections", []panel{
				lines("Open", count, "Sockets that are open, by pod.", query{sum(own(selector("websocket_connections_active")), "pod, instance"), "{{pod}} {{instance}}"}).stack(),
				lines("Opened", perSec, "Sockets that were opened and got their ready frame.", rate("parley_sockets_opened_total", "pod, instance", "{{pod}} {{instance}}")).
					runbook("ParleyReconnectStorm"),
				lines("Closed", perSec, "By reason and close code; empty where none were.", rate("parley_sockets_closed_total", "reason, code", "{{reason}} {{code}}").some()).
					stack().runbook("ParleyAbnormalCloses"),
			}},
			{"Delivery", []panel{
				lines("Commit to socket", seconds, "From the commit of an event to the write to the socket. The objective is 99 % within 0.25 s.",
					quantiles("parley_delivery_seconds")...).over(0.25).runbook("ParleyDeliveryBurn"),
				lines("Through Redis", seconds, "Round trip of a probe that each pod sends itself, by the way of events.",
					quantiles("parley_pubsub_lag_seconds")...).over(0.1).runbook("ParleyPubSubLag"),
				lines("Last probe heard", seconds, "Time since a pod last heard its own probe; 2 s at most when all is well.",
					perPod(selector("parley_pubsub_silence_seconds"))).over(10).runbook("ParleyPubSubSilent"),
			}},
			{"Events", []panel{
				lines("Published and heard", perSec, "Messages to and from Redis, and frames that were queued for sockets.",
					rate("parley_events_published_total", "", "published"), rate("parley_events_heard_total", "", "heard"), rate("parley_deliveries_total", "", "frames")),
				lines("Not published", perSec, "Events that Redis did not take, or that were dropped because too many waited.",
					rate("parley_publish_errors_total", "", "errors"), rate("parley_publish_dropped_total", "", "dropped")).runbook("ParleyPublishFailing"),
				lines("Repairs", perSec, "What was read from Postgres because Redis did not bring it; polls that failed; events that came twice.",
					rate("parley_gap_repairs_total", "", "repairs"), rate("parley_events_repaired_total", "", "events repaired"),
					rate("parley_poll_errors_total", "", "failed polls"), rate("parley_events_duplicate_total", "", "duplicates")).runbook("ParleyEventsRepaired"),
			}},
			{"Frames", []panel{
				lines("Received", perSec, "Frames of clients, by type; empty where none came.", rate("parley_socket_frames_received_total", "type", "{{type}}").some()).stack(),
				lines("Sent", perSec, "Frames that were queued for sockets, by type; empty where none were.", rate("parley_socket_frames_sent_total", "type", "{{type}}").some()).stack(),
				lines("Slow readers", perSec, "Sockets closed with 4408, and the frames that were thrown away with them.",
					rate("parley_sockets_slow_total", "", "sockets"), rate("parley_socket_frames_dropped_total", "", "frames")).runbook("ParleySlowReaders"),
			}},
			{"Health", []panel{
				lines("Ping to pong", seconds, "Round trip of the protocol's pings.", quantiles("parley_socket_ping_seconds")...),
				lines("Publish queue", count, "Events that wait to be published; 8192 at most.", perPod(selector("parley_publish_queue"))).runbook("ParleyPublishFailing"),
				lines("Subscribed pods", count, "Pods that hear Redis.", gauge("sum", "parley_subscriber_up", "", "hear Redis"),
					gauge("count", "parley_subscriber_up", "", "all")).runbook("ParleyPubSubSilent"),
			}},
		},
	}
}
