// Package realtime brings events to sockets.
//
// A domain commits a change and hands its envelope to the Publisher, which tells Redis. The Subscriber of every pod that
// serves the conversation hears it and gives it to the Hub, whose topic for that conversation puts the envelope's finished
// frame into the queue of each Session (a socket). Flushers write the queues.
//
// Redis forgets, so the conversation's revision is the guarantee. A topic tells events in the order of their revisions
// and each once: one that is old is dropped, one that leaves a gap waits a moment and is then read from Postgres together
// with what came before it (repair.go). A poll of Postgres finds what was never heard of. Who gets an event is decided by
// the events before it, so a lost removal is told before anything that follows it.
//
// A session goes through these states (session.go: legal), each once:
//
//	Connect                Close, Echo, too slow
//	  │                  ┌──────────────────────────┐
//	  ▼        start     │                          ▼
//	joining ──────────► open ──────────────────► closing
//	  │  │               │                          │
//	  │  └───────────────│── Close ────────────────►┤
//	  │                  │ Detach                   │ Detach
//	  │ Connect failed   └──────────► leaving ◄─────┘
//	  ▼                                  │ the outbox was released
//	 gone ◄──────────────────────────────┘
//
// joining: registered under its user first, then put into the topics of the user's conversations; frames queue up. open: the
// ready frame is at the front of the outbox, which flows. closing: a close frame is its last; once that is written the peer has
// closeWait to answer. leaving: the reader ended, which is the socket's handler, and called Detach; no topic has the session, and
// what is queued has closeWait to be written. gone: the connection is somebody else's.
//
// An outbox is in at most one hand: nobody's, a flusher's, or, if the reader is slow, a follower's, a goroutine of its own.
//
//	nobody ── claim ──► flusher ── the socket is full ──► follower
//	   ▲                  │ release                          │ release
//	   └──────────────────┴──────────────────────────────────┘
//
// Lock order: topics' shard, topic, users' shard, session. No lock is held while the network is written to.
//
// Invariants, each with the test that guards it: no event twice and none out of order on one socket
// (TestTopicTellsEachRevisionOnceInOrder, TestWhoComesBackIsNotToldTwice); a removed member gets nothing after the removal
// (TestRemovalIsToldBeforeWhatFollows); a reader that stops costs bounded memory and slows nobody (TestSlowReaderIsClosed);
// nothing is written to a connection after its handler returned (TestNothingIsWrittenAfterDetach).
package realtime
