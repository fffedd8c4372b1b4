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
// Lifecycle: a Session is made by Hub.Connect when a socket opens; it is registered under its user first, then put into
// the topics of the user's conversations, then started with its ready frame. Its reader is the socket's handler, which
// calls Session.Detach before it returns; nothing is written to the connection after that. Closing goes one way: a close
// frame is queued, the flusher writes it and bounds the wait for the peer's answer, the reader ends, the handler detaches.
//
// Lock order: topics' shard, topic, users' shard, session. No lock is held while the network is written to.
//
// Invariants, each with the test that guards it: no event twice and none out of order on one socket
// (TestTopicTellsEachRevisionOnceInOrder, TestWhoComesBackIsNotToldTwice); a removed member gets nothing after the removal
// (TestRemovalIsToldBeforeWhatFollows); a reader that stops costs bounded memory and slows nobody (TestSlowReaderIsClosed);
// nothing is written to a connection after its handler returned (TestNothingIsWrittenAfterDetach).
package realtime
