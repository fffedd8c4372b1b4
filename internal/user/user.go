// Package user is the domain of profiles and privacy settings.
package user

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"unicode/utf8"

	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/invalid"
	"github.com/parley-chat/parley/internal/jsonbody"
	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/timestamp"
)

// ErrNotFound is also the answer for a user whom a block hides.
var ErrNotFound = errors.New("user not found")

// Own is a user as they see themselves.
type Own struct {
	chat.Profile
	CreatedAt timestamp.Time `json:"createdAt"`
	Privacy   Privacy        `json:"privacy"`
}

// Whom a user's presence is shown to.
const (
	ShareEveryone = "everyone"
	ShareFriends  = "friends"
	ShareNobody   = "nobody"
)

// Privacy are a user's settings of what others may see.
type Privacy struct {
	PresenceSharing     string `json:"presenceSharing"`
	ReadReceiptsEnabled bool   `json:"readReceiptsEnabled"`
}

const maxURL = 2048

var displayNameRule = invalid.Text{Min: 2, Max: 50, Trim: true}

// ProfileChange changes what others see. What is absent stays.
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
		checkURL(f, "avatarUrl", c.AvatarURL.Value)
	}
	if !c.DisplayName.Set && !c.AvatarURL.Set && len(f.List()) == 0 {
		f.Add("body", "must have displayName or avatarUrl")
	}
}

func checkURL(f *invalid.Faults, field, s string) {
	text := s
	invalid.Text{Min: 1, Max: maxURL}.Check(f, field, &text)
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || utf8.RuneCountInString(s) > maxURL {
		f.Add(field, "must be an absolute http or https URL of at most %d characters", maxURL)
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

// Service is what can be done with profiles.
type Service struct {
	store *store
}

// NewService makes the service.
func NewService(db *postgres.DB) *Service { return &Service{&store{db}} }

// Own reads a user's own profile.
func (s *Service) Own(ctx context.Context, userID string) (Own, error) {
	return s.store.own(ctx, userID)
}

// Get reads a profile as the viewer may see it.
func (s *Service) Get(ctx context.Context, viewerID, userID string) (chat.Profile, error) {
	return s.store.get(ctx, viewerID, userID)
}

// Update changes a user's own profile.
func (s *Service) Update(ctx context.Context, userID string, c *ProfileChange) (Own, error) {
	if err := s.store.update(ctx, userID, c); err != nil {
		return Own{}, err
	}
	return s.store.own(ctx, userID)
}

// UpdatePrivacy changes a user's settings, and answers them all.
func (s *Service) UpdatePrivacy(ctx context.Context, userID string, c *PrivacyChange) (Privacy, error) {
	return s.store.updatePrivacy(ctx, userID, c)
}

// store holds the SQL of profiles.
type store struct {
	db *postgres.DB
}

func (s *store) own(ctx context.Context, userID string) (Own, error) {
	var o Own
	err := s.db.SQL.QueryRowContext(ctx, `SELECT id, username, display_name, avatar_url, created_at, presence_sharing, read_receipts_enabled
		FROM users WHERE id = $1 AND deleted_at IS NULL`, userID).
		Scan(&o.ID, &o.Username, &o.DisplayName, &o.AvatarURL, &o.CreatedAt, &o.Privacy.PresenceSharing, &o.Privacy.ReadReceiptsEnabled)
	if errors.Is(err, sql.ErrNoRows) {
		return Own{}, ErrNotFound
	}
	if err != nil {
		return Own{}, fmt.Errorf("read a profile: %w", err)
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

func (s *store) update(ctx context.Context, userID string, c *ProfileChange) error {
	set := map[string]any{}
	if c.DisplayName.Set {
		set["display_name"] = c.DisplayName.Value
	}
	if c.AvatarURL.Set {
		set["avatar_url"] = c.AvatarURL.Value
		if c.AvatarURL.Null {
			set["avatar_url"] = nil
		}
	}
	if err := s.db.Gorm.WithContext(ctx).Table("users").Where("id = ? AND deleted_at IS NULL", userID).Updates(set).Error; err != nil {
		return fmt.Errorf("update a profile: %w", err)
	}
	return nil
}

func (s *store) updatePrivacy(ctx context.Context, userID string, c *PrivacyChange) (Privacy, error) {
	var sharing *string
	var receipts *bool
	if c.PresenceSharing.Set {
		sharing = &c.PresenceSharing.Value
	}
	if c.ReadReceiptsEnabled.Set {
		receipts = &c.ReadReceiptsEnabled.Value
	}
	var p Privacy
	err := s.db.SQL.QueryRowContext(ctx, `UPDATE users SET presence_sharing = coalesce($2, presence_sharing),
		read_receipts_enabled = coalesce($3, read_receipts_enabled) WHERE id = $1 AND deleted_at IS NULL
		RETURNING presence_sharing, read_receipts_enabled`, userID, sharing, receipts).Scan(&p.PresenceSharing, &p.ReadReceiptsEnabled)
	if errors.Is(err, sql.ErrNoRows) {
		return Privacy{}, ErrNotFound
	}
	if err != nil {
		return Privacy{}, fmt.Errorf("update privacy: %w", err)
	}
	return p, nil
}
