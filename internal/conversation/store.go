package conversation

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"gorm.io/gorm"

	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/cursor"
	"github.com/parley-chat/parley/internal/postgres"
)

// Messages is the part of the message domain that conversations need.
type Messages interface {
	ByIDs(ctx context.Context, q postgres.Querier, ids []string) (map[string]*chat.Message, error)
	// SetMine sets a viewer's own reactions in messages that nobody else is given.
	SetMine(ctx context.Context, q postgres.Querier, viewerID string, list []*chat.Message) error
}

// Store holds the SQL of conversations and their members.
type Store struct {
	db       *postgres.DB
	messages Messages
}

// NewStore makes a store.
func NewStore(db *postgres.DB, m Messages) *Store { return &Store{db: db, messages: m} }

// Objects reads conversations as all members see them, by id. Those that don't exist are left out.
func (s *Store) Objects(ctx context.Context, q postgres.Querier, ids []string) (map[string]*chat.Conversation, error) {
	out, err := s.rows(ctx, q, ids)
	if err != nil {
		return nil, fmt.Errorf("read conversations: %w", err)
	}
	if err := s.addMembers(ctx, q, ids, out); err != nil {
		return nil, fmt.Errorf("read conversations' members: %w", err)
	}
	var last []string
	for _, c := range out {
		if c.LastMessageID != nil {
			last = append(last, *c.LastMessageID)
		}
	}
	if len(last) == 0 {
		return out, nil
	}
	messages, err := s.messages.ByIDs(ctx, q, last)
	if err != nil {
		return nil, err
	}
	for _, c := range out {
		if c.LastMessageID != nil {
			c.LastMessage = messages[*c.LastMessageID]
		}
	}
	return out, nil
}

func (s *Store) rows(ctx context.Context, q postgres.Querier, ids []string) (map[string]*chat.Conversation, error) {
	found, err := postgres.Collect(ctx, q, func(r postgres.Row, c *chat.Conversation) error { return chat.ScanConversation(r, c) },
		`SELECT `+chat.ConversationColumns+` FROM conversations c WHERE c.id = ANY ($1::text[]::uuid[])`, ids)
	if err != nil {
		return nil, err
	}
	out := make(map[string]*chat.Conversation, len(found))
	for i := range found {
		found[i].Members = []chat.Member{}
		out[found[i].ID] = &found[i]
	}
	return out, nil
}

func scanMember(r postgres.Row, m *chat.Member) error { return chat.ScanMember(r, m) }

func (s *Store) addMembers(ctx context.Context, q postgres.Querier, ids []string, to map[string]*chat.Conversation) error {
	return postgres.Each(ctx, q, func(r postgres.Row) error {
		var m chat.Member
		var id string
		if err := chat.ScanMember(r, &m, &id); err != nil {
			return err
		}
		if c := to[id]; c != nil {
			c.Members = append(c.Members, m)
		}
		return nil
	}, `SELECT `+chat.MemberColumns+`, c.id
		FROM unnest($1::text[]::uuid[]) AS c (id)
		CROSS JOIN LATERAL (SELECT * FROM conversation_members m WHERE m.conversation_id = c.id ORDER BY m.joined_at, m.user_id LIMIT $2) m
		JOIN users u ON u.id = m.user_id
		ORDER BY m.joined_at, m.user_id`, ids, shownInside)
}

func memberList(ctx context.Context, q postgres.Querier, query string, args ...any) ([]chat.Member, error) {
	out, err := postgres.Collect(ctx, q, scanMember, query, args...)
	if err != nil {
		return nil, fmt.Errorf("read members: %w", err)
	}
	return out, nil
}

// MembersByID reads the users who are members now.
func (s *Store) MembersByID(ctx context.Context, q postgres.Querier, conversationID string, userIDs []string) ([]chat.Member, error) {
	return memberList(ctx, q, `SELECT `+chat.MemberColumns+` FROM conversation_members m JOIN users u ON u.id = m.user_id
		WHERE m.conversation_id = $1 AND m.user_id = ANY ($2::text[]::uuid[]) ORDER BY m.joined_at, m.user_id`, conversationID, userIDs)
}

// members reads members in the order in which they joined, after a position.
func (s *Store) members(ctx context.Context, conversationID string, after *cursor.Position, limit int) ([]chat.Member, error) {
	const from = `SELECT ` + chat.MemberColumns + ` FROM conversation_members m JOIN users u ON u.id = m.user_id WHERE m.conversation_id = $1`
	const order = ` ORDER BY m.joined_at, m.user_id LIMIT $2`
	if after == nil {
		return memberList(ctx, s.db.SQL, from+order, conversationID, limit)
	}
	return memberList(ctx, s.db.SQL, from+` AND (m.joined_at, m.user_id) > ($3::timestamptz, $4::uuid)`+order, conversationID, limit, after.Time, after.ID)
}

// Memberships reads a user's conversations with the revision of each.
func (s *Store) Memberships(ctx context.Context, userID string) (map[string]int64, error) {
	all, err := s.MembershipsOf(ctx, []string{userID})
	if err != nil {
		return nil, err
	}
	return all[0], nil
}

// A sub-select hides the length of the array from the planner: for one user, a plan of its own looks cheaper than the kept one, and
// planning takes longer than the statement (TestThePlanOfMembershipsIsKept).
const membershipsSQL = `SELECT u.place - 1, c.id, c.revision FROM unnest((SELECT $1::text[]::uuid[])) WITH ORDINALITY u (id, place),
	LATERAL (SELECT conversation_id FROM conversation_members WHERE user_id = u.id OFFSET 0) m,
	LATERAL (SELECT id, revision FROM conversations WHERE id = m.conversation_id LIMIT 1) c`

// MembershipsOf reads users' conversations with the revision of each, in the order of the users.
func (s *Store) MembershipsOf(ctx context.Context, userIDs []string) ([]map[string]int64, error) {
	out := make([]map[string]int64, len(userIDs))
	for i := range out {
		out[i] = map[string]int64{}
	}
	err := postgres.Each(ctx, s.db.SQL, func(r postgres.Row) error {
		var place int
		var id string
		var revision int64
		if err := r.Scan(&place, &id, &revision); err != nil {
			return err
		}
		out[place][id] = revision
		return nil
	}, membershipsSQL, userIDs)
	if err != nil {
		return nil, fmt.Errorf("read memberships: %w", err)
	}
	return out, nil
}

// membership is a member's place in a conversation.
type membership struct {
	Type        string
	Role        string
	LastReadSeq int64
}

// membershipOf reads it, nil if the user is no member.
func membershipOf(ctx context.Context, q postgres.Querier, conversationID, userID string) (*membership, error) {
	var m membership
	err := q.QueryRowContext(ctx, `SELECT c.type, m.role, m.last_read_seq FROM conversation_members m JOIN conversations c ON c.id = m.conversation_id
		WHERE m.conversation_id = $1 AND m.user_id = $2`, conversationID, userID).Scan(&m.Type, &m.Role, &m.LastReadSeq)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil //nolint:nilnil // no member is a valid result
	}
	if err != nil {
		return nil, fmt.Errorf("look up a member: %w", err)
	}
	return &m, nil
}

// reachable counts the users who exist and have no block, in either direction, with the caller.
func reachable(tx *gorm.DB, askerID string, userIDs []string) (int, error) {
	n, err := postgres.Value[int](postgres.Context(tx), postgres.In(tx), `SELECT count(*) FROM users u
		WHERE u.id = ANY ($1::text[]::uuid[]) AND u.deleted_at IS NULL AND NOT EXISTS (
			SELECT FROM blocks b WHERE (b.user_id = u.id AND b.blocked_id = $2) OR (b.user_id = $2 AND b.blocked_id = u.id))`, userIDs, askerID)
	if err != nil {
		return 0, fmt.Errorf("look up users: %w", err)
	}
	return n, nil
}

// directID is the direct conversation of a key, "" if there is none.
func directID(tx *gorm.DB, key string) (string, error) {
	id, err := postgres.Value[string](postgres.Context(tx), postgres.In(tx), `SELECT id FROM conversations WHERE direct_key = $1`, key)
	if err != nil {
		return "", fmt.Errorf("look up a direct conversation: %w", err)
	}
	return id, nil
}

// insert makes a conversation without members, unless there is one of that direct key already.
func insert(tx *gorm.DB, id, creatorID string, c *Creation, directKey *string, members int) (created bool, err error) {
	var creator, clientID *string
	if c.Type == TypeGroup {
		creator, clientID = &creatorID, c.ClientID
	}
	n, err := postgres.Exec(tx, `INSERT INTO conversations (id, type, name, direct_key, member_count, created_by, client_id, created_at, last_message_at, updated_at)
		SELECT $1, $2, $3, $4, $5, $6::uuid, $7, t.now, t.now, t.now FROM (SELECT clock_timestamp() AS now) t
		ON CONFLICT (direct_key) DO NOTHING`, id, c.Type, c.Name, directKey, members, creator, clientID)
	if err != nil {
		return false, fmt.Errorf("insert a conversation: %w", err)
	}
	return n == 1, nil
}

// clientIDKey makes a repeated creation of a group the same group, permanently.
const clientIDKey = "conversations_client_id_key"

// repeatedID is the group that the creator made under a clientId, "" for none. It returns ErrClientIDReused for one that is
// deleted or that the creator has left.
func repeatedID(tx *gorm.DB, creatorID, clientID string) (conversationID string, err error) {
	var there bool
	err = postgres.In(tx).QueryRowContext(postgres.Context(tx), `SELECT c.id, c.deleted_at IS NULL AND EXISTS (
			SELECT FROM conversation_members m WHERE m.conversation_id = c.id AND m.user_id = $1)
		FROM conversations c WHERE c.created_by = $1 AND c.client_id = $2`, creatorID, clientID).Scan(&conversationID, &there)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return "", nil
	case err != nil:
		return "", fmt.Errorf("look up a repeated creation: %w", err)
	case !there:
		return "", ErrClientIDReused
	}
	return conversationID, nil
}

// join adds the users who are not members yet, in the given order, with nothing unread. It returns those who were added.
// actorID is the user who adds them; it is stored with members other than the actor.
func join(tx *gorm.DB, conversationID, actorID string, userIDs []string, role string) ([]string, error) {
	added, err := postgres.Column[string](postgres.Context(tx), postgres.In(tx), `WITH t AS (SELECT clock_timestamp() AS now)
		INSERT INTO conversation_members (conversation_id, user_id, role, joined_at, last_read_seq, added_by)
		SELECT c.id, u.id, $2, t.now + u.n * interval '1 microsecond', c.last_seq, nullif($3::uuid, u.id)
		FROM conversations c CROSS JOIN t CROSS JOIN unnest($4::text[]::uuid[]) WITH ORDINALITY AS u (id, n)
		WHERE c.id = $1
		ON CONFLICT DO NOTHING RETURNING user_id`, conversationID, role, actorID, userIDs)
	if err != nil {
		return nil, fmt.Errorf("insert members: %w", err)
	}
	return added, nil
}

// memberRow is a row of conversation_members, as far as it is written alone.
type memberRow struct {
	ConversationID, UserID, Role string
}

// TableName names the table to GORM.
func (memberRow) TableName() string { return "conversation_members" }

func memberOf(tx *gorm.DB, conversationID, userID string) gorm.ChainInterface[memberRow] {
	return gorm.G[memberRow](tx).Where(map[string]any{"conversation_id": conversationID, "user_id": userID})
}

func removeMember(tx *gorm.DB, conversationID, userID string) error {
	if _, err := memberOf(tx, conversationID, userID).Delete(postgres.Context(tx)); err != nil {
		return fmt.Errorf("delete a member: %w", err)
	}
	return nil
}

func setRole(tx *gorm.DB, conversationID, userID, role string) error {
	if _, err := memberOf(tx, conversationID, userID).Update(postgres.Context(tx), "role", role); err != nil {
		return fmt.Errorf("set a role: %w", err)
	}
	return nil
}

func owners(tx *gorm.DB, conversationID string) (int, error) {
	n, err := postgres.Value[int](postgres.Context(tx), postgres.In(tx), `SELECT count(*) FROM conversation_members m
		JOIN users u ON u.id = m.user_id AND u.deleted_at IS NULL WHERE m.conversation_id = $1 AND m.role = 'owner'`, conversationID)
	if err != nil {
		return 0, fmt.Errorf("count owners: %w", err)
	}
	return n, nil
}

// heir returns the next owner of a group that has none: the oldest admin, else the oldest member, never a deleted account; "" if
// nobody is left.
func heir(tx *gorm.DB, conversationID string) (string, error) {
	id, err := postgres.Value[string](postgres.Context(tx), postgres.In(tx), `SELECT m.user_id FROM conversation_members m
		JOIN users u ON u.id = m.user_id AND u.deleted_at IS NULL
		WHERE m.conversation_id = $1 ORDER BY m.role = 'admin' DESC, m.joined_at, m.user_id LIMIT 1`, conversationID)
	if err != nil {
		return "", fmt.Errorf("find an heir: %w", err)
	}
	return id, nil
}
