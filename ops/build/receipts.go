package main

func receipts() dashboard {
	return dashboard{
		uid: "parley-receipts", title: "Receipts and queues", about: "From the read to its row in Postgres, and asynq's queues.",
		rows: []row{
			{"Flush", []panel{
				lines("Read to Postgres", seconds, "The objective is 99 % within 15 s.", quantiles("parley_receipts_flush_lag_seconds")...).over(15).runbook("ParleyReceiptFlushBurn"),
				lines("Oldest read that waits", seconds, "Due every 10 s.", gauge("max", "parley_receipts_oldest_age_seconds", "", "age")).over(60).runbook("ParleyReceiptBacklogOld"),
				lines("Since the last flush", seconds, "Time since a worker last flushed.",
					query{"time() - max(" + selector("parley_receipts_flush_last_success_timestamp_seconds") + " > 0)", "age"}).over(60).runbook("ParleyReceiptFlushStalled"),
				lines("Waiting", count, "Reads in Redis that are not yet in Postgres, and the messages they are of.",
					gauge("max", "parley_receipts_pending", "", "reads"), gauge("max", "parley_receipts_pending_messages", "", "messages"),
					gauge("max", "parley_receipts_retrying", "", "messages tried again")).
					wide(6).runbook("ParleyReceiptBacklogOld"),
				lines("Rows", perSec, "Receipts written, reads dropped because message or user is gone, and batches that failed.",
					rate("parley_receipts_flush_rows_total", "", "written"), rate("parley_receipts_flush_dropped_total", "", "dropped"),
					rate("parley_receipts_flush_failures_total", "", "failed batches")).wide(6).runbook("ParleyReceiptFlushFailing"),
				lines("Markers and ticks", perSec, "Markers (last_read_seq) that were written, and ticks of the schedule that Redis did not take.",
					rate("parley_receipts_flush_markers_total", "", "markers"), rate("parley_receipts_flush_ticks_missed_total", "", "missed ticks")).
					wide(6).runbook("ParleyReceiptFlushStalled"),
				lines("Duration of a flush", seconds, "One run over all that waits.", quantiles("parley_receipts_flush_seconds")...).wide(6),
			}},
			{"Reads", []panel{
				lines("Accepted", perSec, "By destination: direct to Postgres, buffered in Redis, fallback if Redis is unavailable, marker if there is no receipt.",
					rate("parley_receipts_reads_total", "path", "{{path}}"), rate("parley_receipts_refused_total", "", "refused: too many waited")).stack().wide(12),
				lines("Told to senders", perSec, "Frames, and receipts for which another's frame stood.",
					rate("parley_receipts_frames_total", "", "frames"), rate("parley_receipts_coalesced_total", "", "coalesced")).wide(12),
			}},
			{"Queues", []panel{
				lines("Tasks", count, "asynq's tasks by queue and state, as one worker sees them.",
					gauge("max", "parley_asynq_tasks", "queue, state", "{{queue}} {{state}}")).wide(12).runbook("ParleyTasksWaiting"),
				lines("Oldest waiting task", seconds, "By queue.", gauge("max", "parley_asynq_latency_seconds", "queue", "{{queue}}")).over(30).wide(12).runbook("ParleyTasksWaiting"),
			}},
		},
	}
}
