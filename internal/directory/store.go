package directory

import (
	"context"
	"fmt"
	"time"

	"gorm.io/gorm"

	"github.com/parley-chat/parley/internal/audit"
	"github.com/parley-chat/parley/internal/cursor"
	"github.com/parley-chat/parley/internal/metadata"
	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/timestamp"
)

const usernameKey = "users_username_key"

const columns = `u.id, u.username, u.display_name, u.avatar_url, u.external_id, u.kind, u.metadata::text, u.created_at, u.updated_at, u.last_seen_at,
	u.deactivated_at, u.ban_reason, u.banned_at, u.banned_until, u.banned_at IS NOT NULL AND (u.banned_until IS NULL OR u.banned_until > clock_timestamp())`

func scan(r postgres.Row, u *User) error {
	var meta *string
	var ban struct {
		reason    *string
		at, until *timestamp.Time
		now       bool
	}
	err := r.Scan(&u.ID, &u.Username, &u.DisplayName, &u.AvatarURL, &u.ExternalID, &u.Kind, &meta, &u.CreatedAt, &u.UpdatedAt, &u.LastSeenAt,
		&u.DeactivatedAt, &ban.reason, &ban.at, &ban.until, &ban.now)
	if err != nil {
		return err
	}
	u.Metadata = metadata.Object("{}")
	if meta != nil {
		u.Metadata = metadata.Object(*meta)
	}
	if ban.now {
		u.Ban = &Ban{Reason: ban.reason, At: *ban.at, Until: ban.until}
	}
	return nil
}

// get reads a user who is not deleted, and locks the row with the clause.
func get(ctx context.Context, q postgres.Querier, userID, lock string) (User, error) {
	list, err := postgres.Collect(ctx, q, scan, `SELECT `+columns+` FROM users u WHERE u.id = $1 AND u.deleted_at IS NULL `+lock, userID)
	if err != nil {
		return User{}, fmt.Errorf("read a user: %w", err)
	}
	if len(list) == 0 {
		return User{}, ErrNotFound
	}
	return list[0], nil
}

// known reads the users of external ids, in that order, and locks their rows.
func known(tx *gorm.DB, externalIDs []string) (map[string]User, error) {
	list, err := postgres.Collect(postgres.Context(tx), postgres.In(tx), scan, `SELECT `+columns+` FROM users u
		WHERE u.external_id = ANY ($1::text[]) ORDER BY u.external_id COLLATE "C" FOR NO KEY UPDATE`, externalIDs)
	if err != nil {
		return nil, fmt.Errorf("read users by their external ids: %w", err)
	}
	out := make(map[string]User, len(list))
	for _, u := range list {
		out[*u.ExternalID] = u
	}
	return out, nil
}

// bearers returns, by username, the external id of the user that has it, nil for a user without one. Usernames that nobody has are left out.
func bearers(tx *gorm.DB, usernames []string) (map[string]*string, error) {
	type bearer struct {
		username   string
		externalID *string
	}
	list, err := postgres.Collect(postgres.Context(tx), postgres.In(tx), func(r postgres.Row, b *bearer) error { return r.Scan(&b.username, &b.externalID) },
		`SELECT username, external_id FROM users WHERE username = ANY ($1::text[])`, usernames)
	if err != nil {
		return nil, fmt.Errorf("read usernames: %w", err)
	}
	out := make(map[string]*string, len(list))
	for _, b := range list {
		out[b.username] = b.externalID
	}
	return out, nil
}

// rows are users to be written, a list a column.
type rows struct {
	ids, externalIDs, usernames, names, kinds []string
	avatars, metadatas                        []*string
}

func (r *rows) add(u User) {
	r.ids, r.usernames, r.names, r.kinds = append(r.ids, u.ID), append(r.usernames, u.Username), append(r.names, u.DisplayName), append(r.kinds, u.Kind)
	r.avatars = append(r.avatars, u.AvatarURL)
	external := ""
	if u.ExternalID != nil {
		external = *u.ExternalID
	}
	r.externalIDs = append(r.externalIDs, external)
	var meta *string
	if s := string(u.Metadata); s != "" && s != "{}" {
		meta = &s
	}
	r.metadatas = append(r.metadatas, meta)
}

// insert makes users, but for those whose external id or username somebody else has taken meanwhile. It returns how many it made.
func (r *rows) insert(tx *gorm.DB) (int64, error) {
	if len(r.ids) == 0 {
		return 0, nil
	}
	res, err := postgres.In(tx).ExecContext(postgres.Context(tx), `INSERT INTO users (id, external_id, username, display_name, kind, avatar_url, metadata, password_hash)
		SELECT i.id, i.external_id, i.username, i.name, i.kind, i.avatar, i.metadata::json, ''
		FROM unnest($1::text[]::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[])
			AS i (id, external_id, username, name, kind, avatar, metadata),`+audit.ActorSQL("$8")+`
		ON CONFLICT DO NOTHING`, r.ids, r.externalIDs, r.usernames, r.names, r.kinds, r.avatars, r.metadatas, audit.From(postgres.Context(tx)).ForOutbox())
	if err != nil {
		return 0, fmt.Errorf("insert users: %w", err)
	}
	return res.RowsAffected()
}

// update writes users whose rows are locked.
func (r *rows) update(tx *gorm.DB) error {
	if len(r.ids) == 0 {
		return nil
	}
	_, err := postgres.In(tx).ExecContext(postgres.Context(tx), `UPDATE users u SET username = i.username, display_name = i.name, kind = i.kind,
			avatar_url = i.avatar, metadata = i.metadata::json
		FROM unnest($1::text[]::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[]) AS i (id, username, name, kind, avatar, metadata),`+audit.ActorSQL("$7")+`
		WHERE u.id = i.id`, r.ids, r.usernames, r.names, r.kinds, r.avatars, r.metadatas, audit.From(postgres.Context(tx)).ForOutbox())
	if err != nil {
		return fmt.Errorf("update users: %w", err)
	}
	return nil
}

// Filter selects users for a back end. Empty fields select all.
type Filter struct {
	// Text is the beginning of a username or of a word of a display name, or a whole external id.
	Text string
	// State is one of the States.
	State string
	// UpdatedAfter leaves out users that have not changed since, and those that changed so recently that an earlier change may not have
	// been committed yet.
	UpdatedAfter *time.Time
	After        *cursor.Position
	Limit        int
}

// States of users to filter by.
const (
	StateActive      = "active"
	StateBanned      = "banned"
	StateDeactivated = "deactivated"
)

// holdBack is how long a change is held back from those who follow them: longer than a statement takes to commit, so that none is
// committed later with an earlier time.
const holdBack = postgres.StatementTimeout + 5*time.Second

// banned is the condition of a ban that has not ended.
const banned = `u.banned_at IS NOT NULL AND (u.banned_until IS NULL OR u.banned_until > clock_timestamp())`

func (f Filter) where() (w postgres.Where) {
	w.And("u.deleted_at IS NULL")
	switch f.State {
	case StateActive:
		w.And(`u.deactivated_at IS NULL AND NOT (` + banned + `)`)
	case StateBanned:
		w.And(banned)
	case StateDeactivated:
		w.And(`u.deactivated_at IS NOT NULL`)
	}
	if f.Text != "" {
		w.And(`(u.external_id = %[1]s OR u.id IN (SELECT t.user_id FROM user_search_terms t
			WHERE t.term >= user_search_plain(%[1]s) COLLATE "C" AND t.term < user_search_plain(%[1]s) || E'\U0010FFFF' COLLATE "C"))`, f.Text)
	}
	if f.UpdatedAfter != nil {
		w.And(`u.updated_at > %s`, *f.UpdatedAfter)
		w.And(`u.updated_at < clock_timestamp() - make_interval(secs => %s)`, holdBack.Seconds())
	}
	if f.After != nil {
		w.And(`u.updated_at >= %[1]s AND (u.updated_at, u.id) > (%[1]s, %[2]s::uuid)`, f.After.Time, f.After.ID)
	}
	return w
}

// List reads a page of the users, those that changed longest ago first. With UpdatedAfter, following the pages and then asking again with
// the last time misses no change.
func (s *Service) List(ctx context.Context, f Filter) (list []User, more bool, err error) {
	w := f.where()
	list, err = postgres.Collect(ctx, s.db.SQL, scan,
		`SELECT `+columns+` FROM users u WHERE `+w.SQL()+` ORDER BY u.updated_at, u.id LIMIT `+w.Arg(f.Limit+1), w.Args()...)
	if err != nil {
		return nil, false, fmt.Errorf("list users: %w", err)
	}
	if len(list) > f.Limit {
		return list[:f.Limit], true, nil
	}
	return list, false, nil
}
