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
// If Redis is unavailable, reads of groups are written directly to Postgres, like those of direct conversations. If Postgres is unavailable, a pod
// knows from memory which messages it has delivered and to which members (known.go). Their reads, also those of direct conversations, wait in Redis
// until Postgres is available again. So an acknowledged read needs only one of the two.
//
// # The flush
//
// Three goroutines work at the same time: one reads pieces from Redis, one writes them to Postgres, one removes them. There is a
// flow for each kind of row: a pendingReceipt of a message's batch, and a pendingMarker of a reader's hash.
//
//	index ─► read ─► piece of 5,000 rows ─► write (one statement) ─► remove, if unchanged since the read
//	                                            │ refused
//	                                            └─► halves, down to one id; that id is retried later
//
// One guarantee, called written-before-removed, makes the result right for any number of flushes, even if they overlap, are repeated or die:
//
//	A row leaves Redis only in the form in which it was read, and only after Postgres has it; and a row that Postgres has
//	changes nothing when it is written again.
//
//	Redis                        flusher A                    Postgres                    flusher B
//	 │ (x, 5)                        │                            │                           │
//	 ├──────────── read ────────────►│                            │                           │
//	 ├────────────────────────────── read ───────────────────────────────────────────────────►│
//	 │                               ├─── write (x, 5) ──────────►│ x: 5                      │
//	 │ ◄── a pod adds (x, 7)         │                            │◄──── write (x, 5) ────────┤ nothing changes
//	 │◄─ remove x if it is 5 ────────┤                            │                           │
//	 │ (x, 7) stays                  │                            │                           │
//	 │◄──────────────────────────── remove x if it is 5 ─────────────────────────────────────┤ nothing is removed
//
// For a receipt the form is the score, and a row is replaced by an earlier time only (unbatch.lua, flush_receipts.sql). For a
// marker it is seq, version and time, and within one version a marker only moves forward (unmark.lua, flush_markers.sql). An id
// leaves its index under the same condition: only with the score at which it was listed (forget.lua). So after a crash at any point
// the next flush repeats inserts that change nothing (TestWorkersKilledAtEveryStep, TestOverlappingFlushesWriteEachRowOnce).
//
// Three other mechanisms limit the number of flushes. None of them is needed for a right result:
//
//   - The task's id has the number of the interval (package periodic). So in each interval one worker begins a flush.
//   - The lock of a worker's run (package periodic) makes a process that stops wait for its run.
//   - The lease (lease.go) saves work: a flush that takes longer than its interval would otherwise be joined by a second one, which
//     would wait for the rows that the first has locked, and take them for rows that can't be written.
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
// # Reading
//
// Code that reads pending receipts or markers reads Redis before Postgres. What the flush moves in between is found in both, and
// counted once (TestReceiptsAreWholeWhileTheyAreFlushed). In the other order it would be found in neither.
//
// Other members see how far a user has read by REST (MarkersOf) and, in conversations that are not too large, by frames of the
// markerFeed, which collects the moves of a second. The senderFeed notifies senders in the same way. All of them leave out
// readers who hide receipts, viewers who hide theirs, and pairs with a block between them.
package receipt
