// Package event defines the events of Parley as typed values, one for each type, with their routing. It knows neither sockets
// nor Redis: realtime (its package wire) encodes an event once for all sockets, and a webhook marshals the same Data.
package event

import (
	"context"

	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/tracing"
)

// Event is a change of a conversation. After publishing, neither it nor the data it points to may be changed.
type Event struct {
	// Type is one of Types. Data is the value that frames and webhooks of that type carry as JSON.
	Type string
	Data any

	ConversationID string
	// Revision is the revision of the change, 0 for events that change nothing (typing).
	Revision int64
	// CommittedAt is in microseconds since 1970.
	CommittedAt int64
	// Actor is set on events that are read from the journal (journal.Feed.After), for webhooks.
	Actor Actor
	// Concerned are the users whom a change of members is about, members or not by now. It is set together with Actor.
	Concerned []string

	Routing
	// TraceParent is the trace that the event belongs to (W3C Trace Context), "" if it is in none that is recorded.
	TraceParent string
}

// Routing defines which users get an event of a conversation. The zero value means all members.
type Routing struct {
	// Added are the users who see the conversation from this event on. They get a conversation:created with Welcome instead of
	// Data.
	Added   []string
	Welcome *chat.Conversation
	// Removed are users who get this event and none after it.
	Removed []string
	// Ends is set if nobody gets an event of the conversation after this one.
	Ends bool
	// Except is a user who does not get the event, such as the one who is typing.
	Except string
	// ExceptMany are set instead of Except if there are several. Only events without a revision honour either.
	ExceptMany []string
}

// Actor is the author of a change: a user, a server key, or a server key that acts for a user. An absent one is "".
type Actor struct {
	UserID, KeyID string
}

// In puts the event into the trace that ctx is in.
func (e *Event) In(ctx context.Context) *Event {
	e.TraceParent = tracing.Parent(ctx)
	return e
}

// Known reports whether this version knows a type of event.
func Known(typ string) bool { return known[typ] }

// Notice concerns one user only: Data of a Type for the user's sockets, or information for the pods that have them.
type Notice struct {
	UserID string
	// Type is "" for a notice to pods only.
	Type string
	Data any
	// ExceptSocket is the connection that does not get the frame, because it caused it.
	ExceptSocket string
	// Join names a conversation that the user was added to, with the revision that did.
	Join *Join
	// Related is another user whose relation to this one changed: a friend, a stranger, hidden.
	Related string
	// Replaced are sockets of the user's that give way to newer ones.
	Replaced []string
	// Profile is the user's changed profile. Pods deliver it once, even if they receive it repeatedly.
	Profile *ProfileChange
	// TraceParent is as an Event's.
	TraceParent string
}

// In puts the notice into the trace that ctx is in.
func (n *Notice) In(ctx context.Context) *Notice {
	n.TraceParent = tracing.Parent(ctx)
	return n
}

// Join is a conversation that a user sees from a revision on.
type Join struct {
	ConversationID string `json:"conversationId"`
	Revision       int64  `json:"revision"`
}

// UserJoin is a Join with its user.
type UserJoin struct {
	UserID string
	Join
}

// Missed are the events after a revision of a conversation, read again from Postgres.
type Missed struct {
	// Gone are removals of users who are not members now. They are delivered first, because the other events carry the present state, which
	// these users may not see.
	Gone []*Event
	// Events follow each other by revision without a gap.
	Events []*Event
}
