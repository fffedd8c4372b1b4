package conversation

import (
	"context"
	"slices"

	"gorm.io/gorm"

	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/cursor"
	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/invalid"
	"github.com/parley-chat/parley/internal/journal"
	"github.com/parley-chat/parley/internal/postgres"
)

// Publisher publishes what was committed to all pods. It never waits for Redis: pods repair what is lost.
type Publisher interface {
	Publish(events ...*event.Event)
}

// Markers is the part of the receipt domain that conversations need.
type Markers interface {
	// Markers returns the user's read markers that Postgres does not have yet, by conversation.
	Markers(ctx context.Context, userID string) map[string]chat.PendingMarker
}

// Notifier sends notices about one user to all pods. It never waits for Redis.
type Notifier interface {
	Notify(n *event.Notice)
}

// Service manages conversations and their members. Its methods may be called concurrently.
type Service struct {
	db        *postgres.DB
	store     *Store
	markers   Markers
	publisher Publisher
	notifier  Notifier
}

// NewService makes the service.
func NewService(db *postgres.DB, store *Store, m Markers, p Publisher, n Notifier) *Service {
	return &Service{db: db, store: store, markers: m, publisher: p, notifier: n}
}

// Create creates a conversation, or returns the existing direct one; created reports which.
func (s *Service) Create(ctx context.Context, creatorID string, c *Creation) (conv *chat.Conversation, created bool, err error) {
	others := slices.DeleteFunc(slices.Clone(c.MemberIDs), func(u string) bool { return u == creatorID })
	if c.Type == TypeDirect && len(others) != 1 {
		return nil, false, invalid.One("memberIds", "must name exactly one other user")
	}
	conv, created, err = s.create(ctx, creatorID, others, c)
	if postgres.IsUniqueViolation(err, clientIDKey) { // another request used the clientId at the same time
		conv, created, err = s.create(ctx, creatorID, others, c)
	}
	return conv, created, err
}

func (s *Service) create(ctx context.Context, creatorID string, others []string, c *Creation) (conv *chat.Conversation, created bool, err error) {
	members := append([]string{creatorID}, others...)
	pending := s.markers.Markers(ctx, creatorID)
	var at journal.Stamp
	err = s.db.Tx(ctx, func(tx *gorm.DB) error {
		var conversationID string
		var err error
		conversationID, created, err = findOrCreate(tx, creatorID, others, c)
		if err != nil {
			return err
		}
		if created {
			at, err = journal.NoteCreation(tx, journal.Change{ConversationID: conversationID, UserIDs: members, Actor: event.Actor{UserID: creatorID}})
			if err != nil {
				return err
			}
		}
		conv, err = s.seen(ctx, tx, conversationID, creatorID, pending)
		if err == nil && !created {
			return postgres.ErrUnchanged
		}
		return err
	})
	if err != nil {
		return nil, false, err
	}
	if created {
		s.publisher.Publish(event.ConversationCreated(common(conv), members, at.Micros()).In(ctx))
	}
	return conv, created, nil
}

// findOrCreate returns the group with the creator's clientId, the existing direct conversation, or a new one.
func findOrCreate(tx *gorm.DB, creatorID string, others []string, c *Creation) (conversationID string, created bool, err error) {
	if c.Type == TypeGroup && c.ClientID != nil {
		if conversationID, err = repeatedID(tx, creatorID, *c.ClientID); err != nil || conversationID != "" {
			return conversationID, false, err
		}
	}
	// The creator too: an account may be deleted while its last request is under way.
	if err := lockUsers(tx, append([]string{creatorID}, others...)); err != nil {
		return "", false, err
	}
	n, err := reachable(tx, creatorID, others)
	switch {
	case err != nil:
		return "", false, err
	case n != len(others):
		return "", false, ErrUserNotFound
	case c.Type == TypeDirect:
		return createDirect(tx, creatorID, others[0], c)
	}
	return createGroup(tx, creatorID, others, c)
}

func createDirect(tx *gorm.DB, creatorID, otherID string, c *Creation) (conversationID string, created bool, err error) {
	key := min(creatorID, otherID) + ":" + max(creatorID, otherID)
	if conversationID, err = directID(tx, key); err != nil || conversationID != "" {
		return conversationID, false, err
	}
	conversationID = id.New()
	if created, err = insert(tx, conversationID, creatorID, c, &key, 2); err != nil {
		return "", false, err
	}
	if !created { // the other user created it at the same time
		conversationID, err = directID(tx, key)
		return conversationID, false, err
	}
	_, err = join(tx, conversationID, creatorID, []string{creatorID, otherID}, RoleMember)
	return conversationID, true, err
}

func createGroup(tx *gorm.DB, creatorID string, others []string, c *Creation) (conversationID string, created bool, err error) {
	all := append([]string{creatorID}, others...)
	if len(all) > MaxMembers {
		return "", false, ErrTooManyMembers
	}
	if err := checkGroups(tx, creatorID, all); err != nil {
		return "", false, err
	}
	conversationID = id.New()
	if _, err := insert(tx, conversationID, creatorID, c, nil, len(all)); err != nil {
		return "", false, err
	}
	if _, err := join(tx, conversationID, creatorID, all, RoleMember); err != nil {
		return "", false, err
	}
	return conversationID, true, setRole(tx, conversationID, creatorID, RoleOwner)
}

// object reads a conversation as all members see it, in the transaction that changed it: nothing is read after a commit, which
// might fail the call then.
func (s *Service) object(ctx context.Context, tx *gorm.DB, conversationID string) (*chat.Conversation, error) {
	found, err := s.store.Objects(ctx, postgres.In(tx), []string{conversationID})
	if err != nil {
		return nil, err
	}
	if found[conversationID] == nil {
		return nil, ErrNotFound
	}
	return found[conversationID], nil
}

// seen reads a conversation as the viewer sees it, in a transaction. pending was read before it.
func (s *Service) seen(ctx context.Context, tx *gorm.DB, conversationID, viewerID string, pending pendingMarkers) (*chat.Conversation, error) {
	c, err := s.view(ctx, postgres.In(tx), conversationID, viewerID, pending)
	if err == nil && c == nil {
		return nil, ErrNotFound
	}
	return c, err
}

// common is a conversation as all members see it, of one that a viewer sees.
func common(c *chat.Conversation) *chat.Conversation {
	o := *c
	o.OwnState, o.PeerLastReadSeq = nil, nil
	if c.LastMessage != nil {
		m := *c.LastMessage
		m.Mine, o.LastMessage = nil, &m
	}
	return &o
}

// Get reads a conversation as the viewer sees it.
func (s *Service) Get(ctx context.Context, conversationID, viewerID string) (*chat.Conversation, error) {
	c, err := s.Object(ctx, conversationID, viewerID)
	if err == nil && c == nil {
		return nil, ErrNotFound
	}
	return c, err
}

// Object is Get, with nil for a viewer who is not a member.
func (s *Service) Object(ctx context.Context, conversationID, viewerID string) (*chat.Conversation, error) {
	pending := s.markers.Markers(ctx, viewerID) // before Postgres: a marker that is flushed in between is found there
	return s.view(ctx, s.db.SQL, conversationID, viewerID, pending)
}

func (s *Service) view(ctx context.Context, q postgres.Querier, conversationID, viewerID string, pending pendingMarkers) (*chat.Conversation, error) {
	o, err := ownOf(ctx, q, conversationID, viewerID, pending)
	if err != nil || o == nil {
		return nil, err
	}
	list, err := s.objects(ctx, q, viewerID, []own{*o})
	if err != nil || len(list) == 0 {
		return nil, err
	}
	if err := s.maskBlocked(ctx, q, viewerID, list); err != nil {
		return nil, err
	}
	return &list[0], nil
}

// Memberships reads a user's conversations with the revision of each.
func (s *Service) Memberships(ctx context.Context, userID string) (map[string]int64, error) {
	return s.store.Memberships(ctx, userID)
}

// List is a page of a user's conversations, the newest activity first.
func (s *Service) List(ctx context.Context, userID string, sel Selection, before *cursor.Position, limit int) (list []chat.Conversation, hasMore bool, err error) {
	pending := s.markers.Markers(ctx, userID) // before Postgres, as in Object
	page, err := s.store.newest(ctx, userID, pending, sel, before, limit+1)
	if err != nil {
		return nil, false, err
	}
	if hasMore = len(page) > limit; hasMore {
		page = page[:limit]
	}
	if list, err = s.objects(ctx, s.db.SQL, userID, page); err != nil {
		return nil, false, err
	}
	return list, hasMore, s.maskBlocked(ctx, s.db.SQL, userID, list)
}

// objects reads conversations as their viewer sees them, before blocks are applied.
func (s *Service) objects(ctx context.Context, q postgres.Querier, viewerID string, page []own) ([]chat.Conversation, error) {
	ids := make([]string, len(page))
	for i, m := range page {
		ids[i] = m.id
	}
	found, err := s.store.Objects(ctx, q, ids)
	if err != nil {
		return nil, err
	}
	out := make([]chat.Conversation, 0, len(page))
	var last []*chat.Message
	for _, m := range page {
		if found[m.id] == nil { // deleted since the page was read
			continue
		}
		c := *found[m.id]
		state := m.state
		// Messages may have arrived since the state was read. The conversation's seq and the unread count must be of the same moment.
		state.UnreadCount = c.LastSeq - state.LastReadSeq
		c.OwnState, c.PeerLastReadSeq = &state, m.peer
		out = append(out, c)
		if c.LastMessage != nil {
			last = append(last, c.LastMessage)
		}
	}
	return out, s.store.messages.SetMine(ctx, q, viewerID, last)
}

// Members is a page of a conversation's members in the order in which they joined.
func (s *Service) Members(ctx context.Context, conversationID, viewerID string, after *cursor.Position, limit int) (list []chat.Member, hasMore bool, err error) {
	m, err := membershipOf(ctx, s.db.SQL, conversationID, viewerID)
	if err != nil {
		return nil, false, err
	}
	if m == nil {
		return nil, false, ErrNotFound
	}
	list, err = s.store.members(ctx, conversationID, after, limit+1)
	if err != nil {
		return nil, false, err
	}
	if hasMore = len(list) > limit; hasMore {
		list = list[:limit]
	}
	if m.Type == TypeDirect {
		hidden, err := s.store.hiddenFrom(ctx, s.db.SQL, viewerID, list)
		if err != nil {
			return nil, false, err
		}
		mask(list, hidden)
	}
	return list, hasMore, nil
}
