// Package receipt is the domain of read receipts and read markers.
//
// A receipt records which user read a message, and when first. A marker is the seq up to which a user has read a
// conversation. A Service accepts reads on a pod; the Flusher of the receipt-worker moves those of groups to Postgres.
//
//	       lookUpBatch: one statement for all waiting reads (look.sql)
//	                │
//	    ┌───────────┼───────────────────────────┐
//	    ▼           ▼                           ▼
//	no change    direct, or Redis            group
//	 return      unavailable                    │ one pipeline
//	                │ one statement             ▼
//	                ▼ (write.sql)       1. index of dirty ids (dirty.lua)
//	            Postgres                2. the message's batch (read.lua), the reader's marker (mark.lua)
//	                ▲                           │
//	                └──────── Flusher ──────────┘ every interval
//
// If Redis is unavailable, reads of groups are written as those of direct conversations. If Postgres is unavailable, the
// pod's memory of messages and members (known.go) is enough to keep reads in Redis until it is back. So an acknowledged read
// needs one of the two.
//
// # The flush
//
// Three goroutines work at the same time: one reads pieces from Redis, one writes them to Postgres, one removes them.
//
//	index ─► read ─► piece of 5,000 rows ─► write (one statement) ─► remove, if unchanged since the read
//	                                            │ refused
//	                                            └─► halves, down to one id; that id is retried later
//
// The remover removes exactly what was written: a batch entry only at the score that was written, a marker only at the same
// seq and version. So a crash at any point repeats an insert that changes nothing (TestWorkersKilledAtEveryStep).
//
// An id stays in its index after a flush. It is removed when its batch is empty and nobody has touched it for longer than
// a read can take from the index to the batch (TestATouchedIDStaysInItsIndex):
//
//	pod                       index          batch            flusher
//	 │ touch                    │              │                 │
//	 ├─────────────────────────►│ id           │                 │
//	 │                          │◄─────────────┼─────────────────┤ list: id
//	 │                          │              │◄────────────────┤ empty; but listed too recently: keep it
//	 │ add                      │              │                 │
//	 ├──────────────────────────┼─────────────►│ read            │
//	 │                          │              │◄────────────────┤ the next flush finds it
//
// A lease in Redis keeps two workers from flushing at the same time. It only saves work: two overlapping flushes are
// correct, because every step is conditional.
//
// # Reading
//
// Code that reads pending receipts or markers reads Redis before Postgres. What the flush moves in between is found in both, and
// counted once (TestReceiptsAreWholeWhileTheyAreFlushed). In the other order it would be found in neither.
//
// Other members see how far a user has read by REST (MarkersOf) and, in conversations that are not too large, by frames of the
// markerFeed, which collects the moves of a second. The senderFeed notifies senders in the same way. All of them leave out
// readers who hide receipts, viewers who hide theirs, and pairs with a block between them.
package receipt
