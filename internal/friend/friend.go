// Package friend is the domain of friendships, requests for them, and blocks.
//
// Whatever changes what two users are to each other locks both their rows first, in the order of their ids: races end in
// one consistent state. A block hides both from each other; who is hidden is answered as who does not exist.
package friend

import (
	"context"
	"errors"

	"gorm.io/gorm"

	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/cursor"
	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/invalid"
	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/timestamp"
)

// What can be wrong with a request, besides *invalid.Faults.
var (
	// ErrUserNotFound is also the answer for a user whom a block hides.
	ErrUserNotFound = errors.New("user not found")
	// ErrRequestNotFound is returned where there is no request between the two.
	ErrRequestNotFound = errors.New("there is no such request")
	// ErrTooManyFriends is returned where one of the two would have more than MaxFriends.
	ErrTooManyFriends = errors.New("a user has at most 5000 friends")
	// ErrTooManyRequests is returned where the asker would have more than MaxOutgoing open requests.
	ErrTooManyRequests = errors.New("a user has at most 100 open requests")
)

// Bounds of a user's relations.
const (
	MaxFriends  = 5000
	MaxOutgoing = 100
)

// States of two users.
const (
	StatusPending  = "pending"
	StatusAccepted = "accepted"
)

// Request names whose friend one would be.
type Request struct {
	UserID string `json:"userId"`
}

// Check notes the request's faults.
func (r *Request) Check(f *invalid.Faults) {
	if !id.Valid(r.UserID) {
		f.Add("userId", "must be the id of a user")
	}
}

// Relation is another user, and since when they are what the list says.
type Relation struct {
	User      chat.Profile   `json:"user"`
	CreatedAt timestamp.Time `json:"createdAt"`
}

// State is what came of asking or accepting.
type State struct {
	Status string       `json:"status"`
	User   chat.Profile `json:"user"`
}

// Requests are the open ones of a user. The incoming ones are paged; of the outgoing ones there are few.
type Requests struct {
	Incoming []Relation
	Outgoing []Relation
	HasMore  bool
}

// Notifier tells a user's sockets on all pods.
type Notifier interface {
	Notify(n *event.Notice)
}

// Relations is told whenever two users become something else to each other, after that is committed.
type Relations interface {
	RelationChanged(ctx context.Context, a, b string)
}

// Service is what can be done with friends and blocks.
type Service struct {
	db        *postgres.DB
	store     *store
	notifier  Notifier
	relations Relations
}

// NewService makes the service.
func NewService(db *postgres.DB, n Notifier, r Relations) *Service {
	return &Service{db: db, store: &store{db}, notifier: n, relations: r}
}

// change is what a transaction did, to be told after it.
type change struct {
	typ      string // of the notice, "" for nothing to tell
	own      chat.Profile
	other    chat.Profile
	tellSelf bool
}

func (s *Service) tell(ctx context.Context, c change) {
	if c.typ == "" {
		return
	}
	s.notifier.Notify(event.FriendNotice(c.typ, c.other.ID, c.own).In(ctx))
	if c.tellSelf {
		s.notifier.Notify(event.FriendNotice(c.typ, c.own.ID, c.other).In(ctx))
	}
	s.relations.RelationChanged(ctx, c.own.ID, c.other.ID)
}

// Ask asks for a friendship; where the other has asked, it accepts. created is set for a request that is new.
func (s *Service) Ask(ctx context.Context, userID string, r *Request) (state State, created bool, err error) {
	if r.UserID == userID {
		return State{}, false, invalid.One("userId", "must not be your own")
	}
	var c change
	err = s.db.Tx(ctx, func(tx *gorm.DB) error {
		p, err := lockPair(tx, userID, r.UserID)
		if err != nil {
			return err
		}
		c = change{own: p.own, other: p.other}
		switch {
		case p.mine == StatusAccepted:
			state.Status = StatusAccepted
		case p.theirs == StatusPending:
			c.typ, c.tellSelf = event.TypeFriendAccepted, true
			state.Status = StatusAccepted
			return befriend(tx, userID, r.UserID)
		case p.mine == StatusPending:
			state.Status = StatusPending
		default:
			c.typ, created = event.TypeFriendRequested, true
			state.Status = StatusPending
			return ask(tx, userID, r.UserID)
		}
		return nil
	})
	if err != nil {
		return State{}, false, err
	}
	state.User = c.other
	s.tell(ctx, c)
	return state, created, nil
}

// Accept accepts the other's request. Accepting again changes nothing.
func (s *Service) Accept(ctx context.Context, userID, otherID string) (State, error) {
	var c change
	err := s.db.Tx(ctx, func(tx *gorm.DB) error {
		p, err := lockPair(tx, userID, otherID)
		switch {
		case err != nil:
			return err
		case p.mine == StatusAccepted:
			c.other = p.other
			return nil
		case p.theirs != StatusPending:
			return ErrRequestNotFound
		}
		c = change{event.TypeFriendAccepted, p.own, p.other, true}
		return befriend(tx, userID, otherID)
	})
	if err != nil {
		return State{}, err
	}
	s.tell(ctx, c)
	return State{StatusAccepted, c.other}, nil
}

// Drop declines the other's request, or cancels one's own.
func (s *Service) Drop(ctx context.Context, userID, otherID string) error {
	return s.part(ctx, userID, otherID, func(p pair) error {
		if p.mine != StatusPending && p.theirs != StatusPending {
			return ErrRequestNotFound
		}
		return nil
	})
}

// Unfriend ends a friendship.
func (s *Service) Unfriend(ctx context.Context, userID, otherID string) error {
	return s.part(ctx, userID, otherID, func(p pair) error {
		if p.mine != StatusAccepted {
			return ErrUserNotFound
		}
		return nil
	})
}

func (s *Service) part(ctx context.Context, userID, otherID string, may func(pair) error) error {
	var c change
	err := s.db.Tx(ctx, func(tx *gorm.DB) error {
		p, err := lockPair(tx, userID, otherID)
		if err != nil {
			return err
		}
		if err := may(p); err != nil {
			return err
		}
		c = change{event.TypeFriendRemoved, p.own, p.other, true}
		return part(tx, userID, otherID)
	})
	if err == nil {
		s.tell(ctx, c)
	}
	return err
}

// Block hides two users from each other and ends what they were. To the other it looks as an unfriending does, or as
// nothing. An unknown user is as good as blocked.
func (s *Service) Block(ctx context.Context, userID, otherID string) error {
	if userID == otherID {
		return invalid.One("userId", "must not be your own")
	}
	var c change
	err := s.db.Tx(ctx, func(tx *gorm.DB) error {
		p, err := lockUsers(tx, userID, otherID)
		if errors.Is(err, ErrUserNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		c = change{own: p.own, other: p.other}
		if p.mine != "" || p.theirs != "" {
			c.typ, c.tellSelf = event.TypeFriendRemoved, true
			if err := part(tx, userID, otherID); err != nil {
				return err
			}
		}
		return block(tx, userID, otherID)
	})
	if err != nil {
		return err
	}
	s.tell(ctx, c)
	if c.typ == "" && c.other.ID != "" {
		s.relations.RelationChanged(ctx, userID, otherID)
	}
	return nil
}

// Unblock ends a block. Where there is none it changes nothing.
func (s *Service) Unblock(ctx context.Context, userID, otherID string) error {
	changed, err := s.store.unblock(ctx, userID, otherID)
	if changed {
		s.relations.RelationChanged(ctx, userID, otherID)
	}
	return err
}

// Friends is a page of a user's friends, the newest first.
func (s *Service) Friends(ctx context.Context, userID string, before *cursor.Position, limit int) (list []Relation, hasMore bool, err error) {
	return page(limit, func(n int) ([]Relation, error) { return s.store.list(ctx, friendsSQL, userID, before, n) })
}

// Blocks is a page of whom a user blocks, the newest first, without those who blocked the user before.
func (s *Service) Blocks(ctx context.Context, userID string, before *cursor.Position, limit int) (list []Relation, hasMore bool, err error) {
	return page(limit, func(n int) ([]Relation, error) { return s.store.list(ctx, blocksSQL, userID, before, n) })
}

// Requests is a page of a user's incoming requests and, with the first page, all outgoing ones.
func (s *Service) Requests(ctx context.Context, userID string, before *cursor.Position, limit int) (Requests, error) {
	incoming, more, err := page(limit, func(n int) ([]Relation, error) { return s.store.list(ctx, incomingSQL, userID, before, n) })
	if err != nil {
		return Requests{}, err
	}
	r := Requests{Incoming: incoming, Outgoing: []Relation{}, HasMore: more}
	if before == nil {
		r.Outgoing, err = s.store.list(ctx, outgoingSQL, userID, nil, MaxOutgoing)
	}
	return r, err
}

func page(limit int, read func(n int) ([]Relation, error)) (list []Relation, hasMore bool, err error) {
	list, err = read(limit + 1)
	if len(list) > limit {
		return list[:limit], true, err
	}
	return list, false, err
}
