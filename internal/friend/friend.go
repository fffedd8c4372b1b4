// Package friend is the domain of friendships, requests for them, and blocks.
//
// Every change of the relation of two users first locks both their rows, in the order of their ids, so that races end in
// one consistent state. A block hides both users from each other: a hidden user looks the same as one who does not exist.
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

// Errors of requests, in addition to *invalid.Faults.
var (
	// ErrUserNotFound is also returned for a user hidden by a block.
	ErrUserNotFound = errors.New("user not found")
	// ErrRequestNotFound is returned if there is no request between the two.
	ErrRequestNotFound = errors.New("there is no such request")
	// ErrTooManyFriends is returned if one of the two would have more than MaxFriends.
	ErrTooManyFriends = errors.New("a user has at most 5000 friends")
	// ErrTooManyRequests is returned if the requesting user would have more than MaxOutgoing open requests.
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

// Request names the user to befriend.
type Request struct {
	UserID string `json:"userId"`
}

// Check notes the request's faults.
func (r *Request) Check(f *invalid.Faults) {
	if !id.Valid(r.UserID) {
		f.Add("userId", "must be the id of a user")
	}
}

// Relation is an entry of a list: another user, and the time since which the relation exists.
type Relation struct {
	User      chat.Profile   `json:"user"`
	CreatedAt timestamp.Time `json:"createdAt"`
}

// State is the result of a request or an acceptance.
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

// Notifier sends notices to a user's sockets on all pods.
type Notifier interface {
	Notify(n *event.Notice)
}

// Relations is called after each committed change of the relation of two users.
type Relations interface {
	RelationChanged(ctx context.Context, a, b string)
}

// Service manages friends, requests and blocks. Its methods may be called concurrently.
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

// change is the result of a transaction, published after the commit.
type change struct {
	typ        string // of the notice, "" for none
	own        chat.Profile
	other      chat.Profile
	notifySelf bool
}

func (s *Service) notify(ctx context.Context, c change) {
	if c.typ == "" {
		return
	}
	s.notifier.Notify(event.FriendNotice(c.typ, c.other.ID, c.own).In(ctx))
	if c.notifySelf {
		s.notifier.Notify(event.FriendNotice(c.typ, c.own.ID, c.other).In(ctx))
	}
	s.relations.RelationChanged(ctx, c.own.ID, c.other.ID)
}

// Ask requests a friendship, or accepts the other user's request if there is one. created is set if the request is new.
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
			return postgres.ErrUnchanged
		case p.theirs == StatusPending:
			c.typ, c.notifySelf = event.TypeFriendAccepted, true
			state.Status = StatusAccepted
			return befriend(tx, userID, r.UserID)
		case p.mine == StatusPending:
			state.Status = StatusPending
			return postgres.ErrUnchanged
		default:
			c.typ, created = event.TypeFriendRequested, true
			state.Status = StatusPending
			return ask(tx, userID, r.UserID)
		}
	})
	if err != nil {
		return State{}, false, err
	}
	state.User = c.other
	s.notify(ctx, c)
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
			return postgres.ErrUnchanged
		case p.theirs != StatusPending:
			return ErrRequestNotFound
		}
		c = change{event.TypeFriendAccepted, p.own, p.other, true}
		return befriend(tx, userID, otherID)
	})
	if err != nil {
		return State{}, err
	}
	s.notify(ctx, c)
	return State{StatusAccepted, c.other}, nil
}

// Drop declines the other user's request, or cancels the user's own.
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
		s.notify(ctx, c)
	}
	return err
}

// Block hides two users from each other and ends what they were. The other user sees at most the end of a
// friendship. Blocking an unknown user succeeds and does nothing.
func (s *Service) Block(ctx context.Context, userID, otherID string) error {
	if userID == otherID {
		return invalid.One("userId", "must not be your own")
	}
	var c change
	err := s.db.Tx(ctx, func(tx *gorm.DB) error {
		p, err := lockUsers(tx, userID, otherID)
		if errors.Is(err, ErrUserNotFound) {
			return postgres.ErrUnchanged
		}
		if err != nil {
			return err
		}
		c = change{own: p.own, other: p.other}
		if p.mine != "" || p.theirs != "" {
			c.typ, c.notifySelf = event.TypeFriendRemoved, true
			if err := part(tx, userID, otherID); err != nil {
				return err
			}
		}
		inserted, err := block(tx, userID, otherID)
		if err == nil && !inserted && c.typ == "" {
			return postgres.ErrUnchanged
		}
		return err
	})
	if err != nil {
		return err
	}
	s.notify(ctx, c)
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

// Blocks is a page of the users that a user blocks, the newest block first, without those who had blocked the user earlier.
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
