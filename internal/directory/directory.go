// Package directory is the domain of users whom the product's back end manages through the server API: it creates and changes them in bulk, and
// lists, bans and deactivates them. Package user is the domain of changes that users make to their own profiles.
package directory

import (
	"errors"
	"net/url"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/parley-chat/parley/internal/invalid"
	"github.com/parley-chat/parley/internal/jsonbody"
	"github.com/parley-chat/parley/internal/metadata"
	"github.com/parley-chat/parley/internal/timestamp"
)

// Errors of the directory.
var (
	// ErrNotFound is returned for a user who is unknown or deleted.
	ErrNotFound      = errors.New("user not found")
	ErrUsernameTaken = errors.New("the username is taken")
)

// Kinds of users.
const (
	Person = "person"
	Bot    = "bot"
)

// User is a user as the product's back end sees them.
type User struct {
	ID          string          `json:"id"`
	Username    string          `json:"username"`
	DisplayName string          `json:"displayName"`
	AvatarURL   *string         `json:"avatarUrl"`
	ExternalID  *string         `json:"externalId"`
	Kind        string          `json:"kind"`
	Metadata    metadata.Object `json:"metadata"`
	CreatedAt   timestamp.Time  `json:"createdAt"`
	UpdatedAt   timestamp.Time  `json:"updatedAt"`
	LastSeenAt  *timestamp.Time `json:"lastSeenAt"`
	// DeactivatedAt is left out for a user who is active.
	DeactivatedAt *timestamp.Time `json:"deactivatedAt,omitempty"`
	// Ban is null for a user who is not banned now.
	Ban *Ban `json:"ban"`
}

// Ban is why and until when a user is banned.
type Ban struct {
	Reason *string        `json:"reason"`
	At     timestamp.Time `json:"at"`
	// Until is null for a ban that lasts until it is lifted.
	Until *timestamp.Time `json:"until"`
}

// Fields are the properties of a user that a back end may set. Absent ones stay unchanged; null clears a picture or metadata.
type Fields struct {
	Username    jsonbody.Optional[string]          `json:"username,omitempty"`
	DisplayName jsonbody.Optional[string]          `json:"displayName,omitempty"`
	AvatarURL   jsonbody.Optional[string]          `json:"avatarUrl,omitempty"`
	Metadata    jsonbody.Optional[metadata.Object] `json:"metadata,omitempty"`
	Kind        jsonbody.Optional[string]          `json:"kind,omitempty"`
}

// Draft is a user to be created or changed, by the external id. Its fields are those of Fields, which jsonbody wants flat.
type Draft struct {
	ExternalID  string                             `json:"externalId"`
	Username    jsonbody.Optional[string]          `json:"username,omitempty"`
	DisplayName jsonbody.Optional[string]          `json:"displayName,omitempty"`
	AvatarURL   jsonbody.Optional[string]          `json:"avatarUrl,omitempty"`
	Metadata    jsonbody.Optional[metadata.Object] `json:"metadata,omitempty"`
	Kind        jsonbody.Optional[string]          `json:"kind,omitempty"`
}

func (d *Draft) fields() *Fields {
	return &Fields{d.Username, d.DisplayName, d.AvatarURL, d.Metadata, d.Kind}
}

// Check normalises the draft and adds its faults.
func (d *Draft) Check(f *invalid.Faults) {
	CheckExternalID(f, "externalId", d.ExternalID)
	fields := d.fields()
	fields.check(f)
	if fields.Metadata.Set && !fields.Metadata.Null {
		metadata.Check(f, "metadata", &fields.Metadata.Value)
	}
	d.Username, d.DisplayName, d.AvatarURL, d.Metadata, d.Kind = fields.Username, fields.DisplayName, fields.AvatarURL, fields.Metadata, fields.Kind
}

// Patch changes a user. Metadata is merged (RFC 7396).
type Patch Fields

// Check normalises the patch and adds its faults.
func (p *Patch) Check(f *invalid.Faults) {
	fields := (*Fields)(p)
	fields.check(f)
	if fields.Metadata.Set && !fields.Metadata.Null {
		metadata.CheckPatch(f, "metadata", fields.Metadata.Value)
	}
	if !fields.any() && f.Err() == nil {
		f.Add("body", "must have at least one of username, displayName, avatarUrl, metadata and kind")
	}
}

func (c *Fields) any() bool {
	return c.Username.Set || c.DisplayName.Set || c.AvatarURL.Set || c.Metadata.Set || c.Kind.Set
}

// maxExternalID is how many characters an external id may have.
const maxExternalID = 128

// CheckExternalID adds a fault unless the text may name something of the product's: 1 to 128 characters, taken as they are, no NUL, which
// Postgres refuses, and no U+FFFD, which encoding/json makes of what is no character at all.
func CheckExternalID(f *invalid.Faults, field, s string) {
	if n := utf8.RuneCountInString(s); n < 1 || n > maxExternalID || !utf8.ValidString(s) || strings.ContainsAny(s, "\x00\uFFFD") {
		f.Add(field, "must have 1 to %d characters", maxExternalID)
	}
}

const maxURL = 2048

var (
	usernameRule    = regexp.MustCompile(`^[A-Za-z0-9_.]{3,32}$`)
	displayNameRule = invalid.Text{Min: 2, Max: 50, Trim: true}
)

func (c *Fields) check(f *invalid.Faults) {
	switch {
	case c.Username.Null:
		f.Add("username", "must be a string, not null")
	case c.Username.Set && !usernameRule.MatchString(c.Username.Value):
		f.Add("username", "must have 3 to 32 characters of a-z, 0-9, _ and .")
	}
	c.Username.Value = strings.ToLower(c.Username.Value)
	switch {
	case c.DisplayName.Null:
		f.Add("displayName", "must be a string, not null")
	case c.DisplayName.Set:
		displayNameRule.Check(f, "displayName", &c.DisplayName.Value)
	}
	if c.AvatarURL.Set && !c.AvatarURL.Null {
		u, err := url.Parse(c.AvatarURL.Value)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || utf8.RuneCountInString(c.AvatarURL.Value) > maxURL {
			f.Add("avatarUrl", "must be an absolute http or https URL of at most %d characters", maxURL)
		}
	}
	if c.Kind.Null || c.Kind.Set && c.Kind.Value != Person && c.Kind.Value != Bot {
		f.Add("kind", "must be %s or %s", Person, Bot)
	}
}

// BanRequest bans a user.
type BanRequest struct {
	Reason *string         `json:"reason,omitempty"`
	Until  *timestamp.Time `json:"until,omitempty"`
}

var reasonRule = invalid.Text{Min: 1, Max: 500, Trim: true}

// Check normalises the request and adds its faults.
func (b *BanRequest) Check(f *invalid.Faults) {
	if b.Reason != nil {
		reasonRule.Check(f, "reason", b.Reason)
	}
}
