// Package webhook delivers what happens in Parley to a product's own back end.
//
// The journal is a log without gaps, by conversation and revision. So sending a message writes nothing for webhooks. Each endpoint has a
// place in each conversation, which is a revision: all events up to it were accepted by the endpoint or given up (dead). A dispatcher
// finds conversations that changed, marks the places that are behind, takes a lease on some of these places, reads the events after them
// from the journal, and delivers these in order:
//
//	conversations.changed_at ──► places behind ──► lease ──► journal.Feed.After ──► POST ──► revision moves
//	                                  ▲                                               │ failure
//	                                  └───────────── attempts, next_at ◄──────────────┘
//
// Changed conversations are found quickly by the events that api pods publish to each other (hints.go). A poll finds all others (poll.go).
//
// Every statement that moves a place names the lease, so a dispatcher that was paused and has lost its lease moves nothing
// (TestALostLeaseMovesNothing). A crash at any point repeats at most one delivery of a place, with the same webhook-id. No HTTP request
// is made inside a transaction.
//
// Events that belong to no conversation are rows of the outbox, one for each endpoint. Triggers write those of users and friends in the transaction
// of the change; package push writes push.requested in the transaction of its decision. They are delivered in order within a subject, for example a user.
//
// A replay has separate places (replays.go), which end at a revision. They are processed like the others.
package webhook

import (
	"encoding/json"
	"errors"
	"slices"

	"github.com/parley-chat/parley/internal/invalid"
	"github.com/parley-chat/parley/internal/jsonbody"
	"github.com/parley-chat/parley/internal/timestamp"
)

// Errors of requests, in addition to *invalid.Faults.
var (
	// ErrNotFound is returned for an endpoint or a dead event that does not exist.
	ErrNotFound = errors.New("webhook not found")
	// ErrNameTaken is returned for a name that another endpoint has.
	ErrNameTaken = errors.New("another webhook has this name")
	// ErrTooMany is returned if maxEndpoints exist already.
	ErrTooMany = errors.New("there are at most 20 webhooks")
	// ErrTooManyReplays is returned if maxReplays of the endpoint are incomplete.
	ErrTooManyReplays = errors.New("ten replays of this webhook are not complete yet")
)

const (
	maxEndpoints = 20
	// slotsPerEndpoint is how many conversations of an endpoint are delivered at once, whatever the number of dispatchers.
	slotsPerEndpoint = 16
)

// Types are the types of events that an endpoint may subscribe to. "*" means all.
var Types = []string{
	"message.created", "message.updated", "message.deleted", "message.reacted",
	"conversation.created", "conversation.updated", "conversation.deleted",
	"conversation.members_added", "conversation.members_removed", "conversation.members_updated",
	"user.created", "user.updated", "user.deactivated", "user.reactivated", "user.banned", "user.unbanned", "user.deleted",
	"friend.added", "friend.removed", "push.requested",
}

// States of an endpoint.
const (
	StateActive   = "active"
	StateFailing  = "failing"
	StateDisabled = "disabled"
)

// Lag is how far an endpoint is behind.
type Lag struct {
	// Conversations is the number of conversations with undelivered changes, OldestAt the time since when the oldest change has waited.
	Conversations int64           `json:"conversations"`
	OldestAt      *timestamp.Time `json:"oldestAt"`
}

// Endpoint is a webhook.
type Endpoint struct {
	ID             string         `json:"id"`
	Name           string         `json:"name"`
	URL            string         `json:"url"`
	Types          []string       `json:"types"`
	State          string         `json:"state"`
	DisabledReason *string        `json:"disabledReason"`
	CreatedAt      timestamp.Time `json:"createdAt"`
	Lag            Lag            `json:"lag"`
	// Dead is how many events were given up.
	Dead int64 `json:"dead"`
}

// WithSecret is an endpoint with a secret, which is shown once.
type WithSecret struct {
	Endpoint
	Secret string `json:"secret"`
}

// Draft is an endpoint to make.
type Draft struct {
	Name  string   `json:"name"`
	URL   string   `json:"url"`
	Types []string `json:"types"`
	// From is "now" or "beginning".
	From jsonbody.Optional[string] `json:"from,omitempty"`
}

const maxName = 100

// Check notes the draft's faults, except those of the URL, which the service checks.
func (d *Draft) Check(f *invalid.Faults) {
	invalid.Text{Min: 1, Max: maxName, Trim: true}.Check(f, "name", &d.Name)
	checkTypes(f, d.Types)
	if d.From.Set && d.From.Value != "now" && d.From.Value != "beginning" {
		f.Add("from", "must be now or beginning")
	}
}

func checkTypes(f *invalid.Faults, types []string) {
	if len(types) == 0 || len(types) > len(Types)+1 {
		f.Add("types", `must name types of events, or be ["*"]`)
	}
	for _, t := range types {
		if t != "*" && !slices.Contains(Types, t) {
			f.Add("types", "must hold only types of events or *")
		}
	}
}

// Change changes an endpoint. What is absent stays.
type Change struct {
	URL   jsonbody.Optional[string] `json:"url,omitempty"`
	Types []string                  `json:"types,omitempty"`
	// State is "active", which continues from its position, or "disabled".
	State jsonbody.Optional[string] `json:"state,omitempty"`
}

// Check notes the change's faults, except those of the URL, which the service checks.
func (c *Change) Check(f *invalid.Faults) {
	if c.URL.Null {
		f.Add("url", "must be a string, not null")
	}
	if c.Types != nil {
		checkTypes(f, c.Types)
	}
	if c.State.Set && c.State.Value != StateActive && c.State.Value != StateDisabled {
		f.Add("state", "must be active or disabled")
	}
	if !c.URL.Set && c.Types == nil && !c.State.Set && f.Err() == nil {
		f.Add("body", "must have url, types or state")
	}
}

// Attempt is a failed delivery.
type Attempt struct {
	ID string `json:"-"`
	// Event is the webhook-id, Body the first KiB of the answer.
	Event  string         `json:"event"`
	Type   string         `json:"type"`
	At     timestamp.Time `json:"at"`
	Status *int           `json:"status"`
	Error  string         `json:"error"`
	Body   string         `json:"body"`
}

// Dead is an event that was given up.
type Dead struct {
	ID    string         `json:"-"`
	Event string         `json:"event"`
	Type  string         `json:"type"`
	At    timestamp.Time `json:"at"`
	Error string         `json:"error"`
}

// Trial is the result of a test.
type Trial struct {
	Status     *int    `json:"status"`
	DurationMS int64   `json:"durationMs"`
	Error      *string `json:"error"`
}

// delivery is one event as it is sent.
type delivery struct {
	id, typ string
	body    []byte
}

// body is what a receiver gets.
type body struct {
	Type      string         `json:"type"`
	Timestamp timestamp.Time `json:"timestamp"`
	Data      any            `json:"data"`
	Actor     bodyActor      `json:"actor"`
}

type bodyActor struct {
	UserID *string `json:"userId"`
	KeyID  *string `json:"keyId"`
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// withConversation adds the member conversation to an event's data.
func withConversation(data any, c *conversationRef) (json.RawMessage, error) {
	b, err := json.Marshal(data)
	if err != nil {
		return nil, err
	}
	ref, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	out := append([]byte(`{"conversation":`), ref...)
	if len(b) > 2 {
		out = append(append(out, ','), b[1:]...)
	} else {
		out = append(out, '}')
	}
	return out, nil
}

// conversationRef is the part of a conversation that its events carry.
type conversationRef struct {
	ID         string          `json:"id"`
	ExternalID *string         `json:"externalId"`
	Type       string          `json:"type"`
	Metadata   json.RawMessage `json:"metadata"`
}
