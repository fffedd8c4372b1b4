// Package user is the domain of profiles and privacy settings.
package user

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/parley-chat/parley/internal/audit"
	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/invalid"
	"github.com/parley-chat/parley/internal/jsonbody"
	"github.com/parley-chat/parley/internal/postgres"
)

// ErrNotFound is also returned for a user hidden by a block.
var ErrNotFound = errors.New("user not found")

// Whom a user's presence is shown to.
const (
	ShareEveryone = "everyone"
	ShareFriends  = "friends"
	ShareNobody   = "nobody"
)

var displayNameRule = invalid.Text{Min: 2, Max: 50, Trim: true}

// ProfileChange changes a profile. Absent members stay unchanged.
type ProfileChange struct {
	DisplayName jsonbody.Optional[string] `json:"displayName,omitempty"`
	// AvatarURL is cleared by null.
	AvatarURL jsonbody.Optional[string] `json:"avatarUrl,omitempty"`
}

// Check normalises the change and notes its faults.
func (c *ProfileChange) Check(f *invalid.Faults) {
	switch {
	case c.DisplayName.Null:
		f.Add("displayName", "must be a string, not null")
	case c.DisplayName.Set:
		displayNameRule.Check(f, "displayName", &c.DisplayName.Value)
	}
	if c.AvatarURL.Set && !c.AvatarURL.Null {
		invalid.URL(f, "avatarUrl", c.AvatarURL.Value)
	}
	if !c.DisplayName.Set && !c.AvatarURL.Set && len(f.List()) == 0 {
		f.Add("body", "must have displayName or avatarUrl")
	}
}

// PrivacyChange changes settings. What is absent stays.
type PrivacyChange struct {
	PresenceSharing     jsonbody.Optional[string] `json:"presenceSharing,omitempty"`
	ReadReceiptsEnabled jsonbody.Optional[bool]   `json:"readReceiptsEnabled,omitempty"`
}

// Check notes the change's faults.
func (c *PrivacyChange) Check(f *invalid.Faults) {
	if c.PresenceSharing.Set {
		switch c.PresenceSharing.Value {
		case ShareEveryone, ShareFriends, ShareNobody:
		default:
			f.Add("presenceSharing", "must be everyone, friends or nobody")
		}
	}
	if c.ReadReceiptsEnabled.Null {
		f.Add("readReceiptsEnabled", "must be true or false, not null")
	}
	if !c.PresenceSharing.Set && !c.ReadReceiptsEnabled.Set && len(f.List()) == 0 {
		f.Add("body", "must have presenceSharing or readReceiptsEnabled")
	}
}

// Service manages profiles and privacy settings. Its methods may be called concurrently.
type Service struct {
	store     *store
	publisher Publisher
	redis     Redis // nil: nothing is remembered
	owns      owns
}

// NewService makes the service. If the publisher is nil, pods find changed profiles only through Changed. stamps has profiles remembered;
// nil for none.
func NewService(db *postgres.DB, p Publisher, stamps Redis) *Service {
	return &Service{store: &store{db}, publisher: p, redis: stamps}
}

// Own reads a user's own profile.
func (s *Service) Own(ctx context.Context, userID string) (chat.Own, error) {
	return s.store.own(ctx, userID)
}

// Get reads a profile as the viewer may see it.
func (s *Service) Get(ctx context.Context, viewerID, userID string) (chat.Profile, error) {
	return s.store.get(ctx, viewerID, userID)
}

// Update changes a user's own profile, and reports it to those who see the user.
func (s *Service) Update(ctx context.Context, userID string, c *ProfileChange) (chat.Own, error) {
	own, changedAt, err := s.store.update(ctx, userID, c)
	if err == nil {
		s.Mark(ctx, userID)
	}
	if err == nil && changedAt != nil && s.publisher != nil {
		s.publisher.ProfileChanged(ctx, event.ProfileChange{User: own.Profile, At: changedAt.UnixMicro()})
	}
	return own, err
}

// UpdatePrivacy changes a user's settings and returns all of them.
func (s *Service) UpdatePrivacy(ctx context.Context, userID string, c *PrivacyChange) (chat.Privacy, error) {
	p, err := s.store.updatePrivacy(ctx, userID, c)
	if err == nil {
		s.Mark(ctx, userID)
	}
	return p, err
}

// store holds the SQL of profiles.
type store struct {
	db *postgres.DB
}

func (s *store) own(ctx context.Context, userID string) (chat.Own, error) {
	var o chat.Own
	err := chat.ScanOwn(s.db.SQL.QueryRowContext(ctx, `SELECT `+chat.OwnColumns+` FROM users u WHERE u.id = $1 AND u.deleted_at IS NULL`, userID), &o)
	if errors.Is(err, sql.ErrNoRows) {
		return chat.Own{}, ErrNotFound
	}
	if err != nil {
		return chat.Own{}, fmt.Errorf("read a profile: %w", err)
	}
	return o, nil
}

func (s *store) get(ctx context.Context, viewerID, userID string) (chat.Profile, error) {
	var u chat.Profile
	err := s.db.SQL.QueryRowContext(ctx, `SELECT u.id, u.username, u.display_name, u.avatar_url FROM users u
		WHERE u.id = $1 AND NOT EXISTS (SELECT FROM blocks b
			WHERE (b.user_id = $1 AND b.blocked_id = $2) OR (b.user_id = $2 AND b.blocked_id = $1))`, userID, viewerID).
		Scan(&u.ID, &u.Username, &u.DisplayName, &u.AvatarURL)
	if errors.Is(err, sql.ErrNoRows) {
		return chat.Profile{}, ErrNotFound
	}
	if err != nil {
		return chat.Profile{}, fmt.Errorf("read a profile: %w", err)
	}
	return u, nil
}

// update changes a profile and returns it as it is then, in one statement: nothing is read after the commit. changedAt is nil if
// all of it was so already.
func (s *store) update(ctx context.Context, userID string, c *ProfileChange) (o chat.Own, changedAt *time.Time, err error) {
	var avatar *string
	if !c.AvatarURL.Null {
		avatar = &c.AvatarURL.Value
	}
	err = postgres.Write(ctx, s.db.SQL, func(ctx context.Context, q postgres.Querier) error {
		err := chat.ScanOwn(q.QueryRowContext(ctx, `UPDATE users u SET
				display_name = CASE WHEN $2 THEN $3 ELSE display_name END, avatar_url = CASE WHEN $4 THEN $5 ELSE avatar_url END
			FROM`+audit.ActorSQL("$6")+`WHERE u.id = $1 AND u.deleted_at IS NULL RETURNING `+chat.OwnColumns+`,
				CASE WHEN u.profile_changed_at >= statement_timestamp() THEN u.profile_changed_at END`,
			userID, c.DisplayName.Set, c.DisplayName.Value, c.AvatarURL.Set, avatar, audit.As(ctx, userID).ForOutbox()), &o, &changedAt)
		if err == nil && changedAt == nil {
			return postgres.ErrUnchanged
		}
		return err
	})
	if errors.Is(err, sql.ErrNoRows) {
		return chat.Own{}, nil, ErrNotFound
	}
	if err != nil {
		return chat.Own{}, nil, fmt.Errorf("update a profile: %w", err)
	}
	return o, changedAt, nil
}

func (s *store) updatePrivacy(ctx context.Context, userID string, c *PrivacyChange) (chat.Privacy, error) {
	var sharing *string
	var receipts *bool
	if c.PresenceSharing.Set {
		sharing = &c.PresenceSharing.Value
	}
	if c.ReadReceiptsEnabled.Set {
		receipts = &c.ReadReceiptsEnabled.Value
	}
	var p chat.Privacy
	err := postgres.Write(ctx, s.db.SQL, func(ctx context.Context, q postgres.Querier) error {
		var changed bool
		err := q.QueryRowContext(ctx, `WITH old AS (
				SELECT id, presence_sharing, read_receipts_enabled FROM users WHERE id = $1 AND deleted_at IS NULL FOR NO KEY UPDATE)
			UPDATE users u SET presence_sharing = coalesce($2, old.presence_sharing),
				read_receipts_enabled = coalesce($3, old.read_receipts_enabled)
			FROM old WHERE u.id = old.id
			RETURNING u.presence_sharing, u.read_receipts_enabled,
				(u.presence_sharing, u.read_receipts_enabled) IS DISTINCT FROM (old.presence_sharing, old.read_receipts_enabled)`,
			userID, sharing, receipts).Scan(&p.PresenceSharing, &p.ReadReceiptsEnabled, &changed)
		if err == nil && !changed {
			return postgres.ErrUnchanged
		}
		return err
	})
	if errors.Is(err, sql.ErrNoRows) {
		return chat.Privacy{}, ErrNotFound
	}
	if err != nil {
		return chat.Privacy{}, fmt.Errorf("update privacy: %w", err)
	}
	return p, nil
}
