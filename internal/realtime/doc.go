// Package realtime delivers events to sockets.
//
// A domain commits a change and gives the event to the Publisher, which publishes its envelope to Redis. The Subscriber of
// every pod that serves the conversation receives the envelope and passes it to the Hub. The Hub's topic for that
// conversation appends the envelope's finished frame to the outbox of each Session (a socket). Flushers write the outboxes.
//
//	domain ─► Publisher ─► Redis ─► Subscriber ─► Hub ─► topic ─► Session's outbox ─► flusher ─► socket
//	              │                                       ▲
//	              └──────────────► Postgres ─► repairs ───┘
//
// # Order and repairs
//
// Redis loses events, so the conversation's revision is the guarantee. A topic delivers events in the order of their
// revisions, each once:
//
//	revision ≤ delivered       dropped: a duplicate
//	revision = delivered + 1   delivered, and with it those in pending that follow
//	revision > delivered + 1   kept in pending; after 50 ms the gap is read from Postgres (repair.go)
//
// A poll of Postgres every two seconds finds changes and joins that the pod never received. Earlier events determine which
// sessions get a later one. So a removal that was lost is repaired before anything that follows it is delivered.
//
// # Joins
//
// A user who is added to a conversation has sockets on pods that may not serve it yet. The publisher sends two messages: the
// event on the conversation's channel, and a notice with the join on the user's channel, because only the user's channel
// is certain to be subscribed on these pods.
//
//	the usual case                                     the join was lost: a poll finds it
//
//	notice  ─► serveJoin makes the topic,              poll ─► serveJoin finds a topic that another user's
//	           delivered = join - 1,                           socket made later: delivered ≥ join, so it
//	           awaitedJoin = join: it stays                    will never deliver the join itself
//	           although it has no sessions                          │
//	event   ─► welcome attaches the sockets            attachMissed reads the events from the join on, and
//	     or    (from Redis, or by a repair)                     attachLate gives them to the sockets alone,
//	repair  ─► joinsArrived: awaitedJoin = 0                    then attaches them
//
// A socket whose user was removed after a join must not be attached again by that old join. So each session remembers the revision at which it left
// a conversation (leftAfter).
//
// # Sessions
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
// joining: the session is registered under its user first, and then put into the topics of the user's conversations; frames
// queue up. open: the ready frame is at the front of the outbox, which is being written. closing: a close frame is the last
// one; once it is written the peer has closeWait to respond. leaving: the reader, which is the socket's handler, has ended
// and called Detach; no topic has the session, and queued frames have closeWait to be written. gone: the connection
// may be reused by the server and must not be touched.
//
// # Outboxes
//
// At most one goroutine writes an outbox: none, a flusher, or, for a slow client, a follower, which is a separate goroutine.
//
//	nobody ── claim ──► flusher ── the socket is full ──► follower
//	   ▲                  │ release                          │ release
//	   └──────────────────┴──────────────────────────────────┘
//
// # Locks and invariants
//
// Lock order: topics' shard, topic, users' shard, session. No lock is held during a write to the network.
//
// Invariants, each with its test: no event is delivered twice or out of order to one socket
// (TestTopicDeliversEachRevisionOnceInOrder, TestUserAddedAgainGetsNoEventTwice); a removed member gets nothing after the removal
// (TestRemovalIsDeliveredBeforeLaterEvents); a client that stops reading costs bounded memory and delays no other
// (TestSlowReaderIsClosed); nothing is written to a connection after its handler returned (TestNothingIsWrittenAfterDetach).
package realtime
