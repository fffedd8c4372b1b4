// Package auth is the domain of accounts' credentials and sessions: passwords, access and refresh tokens, and the ends of
// sessions. Every pod detects within seconds that a session has ended.
package auth

import (
	"errors"
	"strings"
	"time"

	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/invalid"
	"github.com/parley-chat/parley/internal/principal"
	"github.com/parley-chat/parley/internal/timestamp"
)

// Errors of requests, in addition to *invalid.Faults.
var (
	ErrUsernameTaken      = errors.New("the username is taken")
	ErrInvalidCredentials = errors.New("the username or the password is wrong")
	ErrInvalidRefresh     = errors.New("the refresh token is not valid, and its session, if it had one, has ended")
	ErrWrongPassword      = errors.New("the password is wrong")
	ErrSessionNotFound    = errors.New("session not found")
	// ErrUnauthorized is returned for an access token that is not valid, or whose session has ended.
	ErrUnauthorized = principal.ErrUnauthorized
	// ErrBusy is returned if too many passwords wait to be hashed, of all accounts or of this one.
	ErrBusy = errors.New("too many logins at once")
)

var (
	passwordRule    = invalid.Text{Min: 8, Max: 128}
	displayNameRule = invalid.Text{Min: 2, Max: 50, Trim: true}
)

func checkNewPassword(f *invalid.Faults, field string, s *string) {
	passwordRule.Check(f, field, s)
	if commonest(*s) {
		f.Add(field, "is among the commonest passwords")
	}
}

// Registration is a new account.
type Registration struct {
	Username    string  `json:"username"`
	Password    string  `json:"password"`
	DisplayName *string `json:"displayName,omitempty"`
}

// Check normalises the registration and notes its faults. Without a display name the username is shown.
func (r *Registration) Check(f *invalid.Faults) {
	checkUsername(f, &r.Username)
	checkNewPassword(f, "password", &r.Password)
	if isUsername(r.Password, r.Username) {
		f.Add("password", "must not be the username")
	}
	if r.DisplayName == nil {
		name := r.Username
		r.DisplayName = &name
		return
	}
	displayNameRule.Check(f, "displayName", r.DisplayName)
}

// Credentials are a username and a password.
type Credentials struct {
	Username string `json:"username"`
	Password string `json:"password"`
}

// Check normalises the credentials. Its faults reveal nothing about the existence of an account.
func (c *Credentials) Check(f *invalid.Faults) {
	c.Username = strings.ToLower(c.Username)
	invalid.Text{Max: 256}.Check(f, "username", &c.Username) // Postgres takes no NUL
	invalid.Text{Min: 0, Max: passwordRule.Max}.Check(f, "password", &c.Password)
}

// RefreshToken names a session by the token that it was given last.
type RefreshToken struct {
	Token string `json:"refreshToken"`
}

// Check notes the token's faults.
func (r *RefreshToken) Check(f *invalid.Faults) {
	if r.Token == "" || len(r.Token) > 256 {
		f.Add("refreshToken", "must be a refresh token")
	}
}

// PasswordChange replaces a password.
type PasswordChange struct {
	Current string `json:"current"`
	New     string `json:"new"`
}

// Check normalises the change and notes its faults.
func (p *PasswordChange) Check(f *invalid.Faults) {
	invalid.Text{Min: 0, Max: passwordRule.Max}.Check(f, "current", &p.Current)
	checkNewPassword(f, "new", &p.New)
}

// Deletion is the password that confirms the deletion of an account.
type Deletion struct {
	Password string `json:"password"`
}

// Check normalises the deletion and notes its faults.
func (d *Deletion) Check(f *invalid.Faults) {
	invalid.Text{Min: 0, Max: passwordRule.Max}.Check(f, "password", &d.Password)
}

// Pair are the tokens that a client gets at the start of a session and at each refresh.
type Pair struct {
	User         chat.Own
	SessionID    string
	AccessToken  string
	RefreshToken string
	// ExpiresIn is how long the access token is good for.
	ExpiresIn time.Duration
}

// Client describes the client that opens or refreshes a session.
type Client struct {
	// UserAgent is its own description of itself.
	UserAgent string
	// Address is its network address: an IPv4 address, or the /64 of an IPv6 one; "" if unknown.
	Address string
}

// Session is one of a user's own sessions.
type Session struct {
	ID         string         `json:"id"`
	UserAgent  string         `json:"userAgent"`
	CreatedAt  timestamp.Time `json:"createdAt"`
	LastUsedAt timestamp.Time `json:"lastUsedAt"`
	ExpiresAt  timestamp.Time `json:"expiresAt"`
	Current    bool           `json:"current"`
}
