// Package webhook delivers what happens in Parley to a product's own back end.
//
// The journal already is a log without gaps, by conversation and revision, so a send writes nothing for webhooks. Each endpoint has a
// place per conversation: everything up to its revision was answered or declared dead. A dispatcher looks for conversations that changed,
// marks the places that are behind, takes a lease on a few of them, reads what follows from the journal, and delivers it in order:
//
//	conversations.changed_at ──► places behind ──► lease ──► journal.Feed.After ──► POST ──► revision moves
//	                                  ▲                                               │ failure
//	                                  └───────────── attempts, next_at ◄──────────────┘
//
// Conversations are found by what api pods publish for each other (hints.go), and by a poll, which finds the rest (poll.go).
//
// Each step names the lease, so that a dispatcher that was paused and has lost it moves nothing (TestALostLeaseMovesNothing). A crash at
// any point repeats one delivery, under the same webhook-id. No HTTP is done inside a transaction.
//
// What belongs to no conversation (users, friends) is written to the outbox by triggers, in the change's own transaction, a row for each
// endpoint, and delivered in order by subject.
//
// A replay has places of its own (replays.go), which end at a revision. They are worked on as the others are.
package webhook

import (
	"encoding/json"
	"errors"
	"slices"

	"github.com/parley-chat/parley/internal/invalid"
	"github.com/parley-chat/parley/internal/jsonbody"
	"github.com/parley-chat/parley/internal/timestamp"
)

// What can be wrong with a request, besides *invalid.Faults.
var (
	// ErrNotFound is returned for an endpoint or a dead event that does not exist.
	ErrNotFound = errors.New("webhook not found")
	// ErrNameTaken is returned for a name that another endpoint has.
	ErrNameTaken = errors.New("another webhook has this name")
	// ErrTooMany is returned for one endpoint too many.
	ErrTooMany = errors.New("there are at most 20 webhooks")
	// ErrTooManyReplays is returned for one replay of an endpoint too many.
	ErrTooManyReplays = errors.New("ten replays of this webhook are not complete yet")
)

const (
	maxEndpoints = 20
	// slotsPerEndpoint is how many conversations of an endpoint are delivered at once, whatever the number of dispatchers.
	slotsPerEndpoint = 16
)

// Types are the types of events, "*" stands for all.
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
	// Conversations is how many have undelivered changes, OldestAt since when the oldest of them waits.
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

// Check notes the draft's faults, but for the URL's, which the service checks.
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

// Check notes the change's faults, but for the URL's, which the service checks.
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

// Trial is what became of a test.
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

// conversationRef is what an event says of its conversation.
type conversationRef struct {
	ID         string          `json:"id"`
	ExternalID *string         `json:"externalId"`
	Type       string          `json:"type"`
	Metadata   json.RawMessage `json:"metadata"`
}
