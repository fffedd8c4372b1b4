// Package identity is the domain of users whom the product knows by tokens of its own issuer. A Source holds the issuer's key set and
// follows its rotation, a Verifier holds tokens against it, and a Service finds or makes the user of a token.
//
// It fails closed: without a key set, or with one that could not be renewed for too long, no external token is accepted.
package identity

import (
	"errors"
	"time"

	"github.com/parley-chat/parley/internal/principal"
)

// ErrUnauthorized is returned for a token that does not hold. The log and parley_auth_rejected_total say why, the client does not learn it.
var ErrUnauthorized = principal.ErrUnauthorized

// Errors besides ErrUnauthorized.
var (
	// ErrUnavailable is returned while there is no key set to hold tokens against, or only one that is too old.
	ErrUnavailable = errors.New("the issuer's keys cannot be had")
	// ErrNotProvisioned is returned for a valid token of a user that no server key has created, if that is required.
	ErrNotProvisioned = errors.New("this user was not created yet")
)

// Profile says who decides on a user's name and picture.
type Profile string

// Who decides on a user's name and picture.
const (
	// ProfileSync has them follow the token.
	ProfileSync Profile = "sync"
	// ProfileFirst takes them from the first token; from then on they are the user's own.
	ProfileFirst Profile = "first"
)

// Config are the settings of external identity.
type Config struct {
	// Issuer and Audience are compared exactly; a token needs one of the audiences.
	Issuer   string
	Audience []string
	// Algorithms are those that a token may be signed with.
	Algorithms []string
	// The claims of the user, and of what the profile is made of; empty for none.
	ClaimUser, ClaimUsername, ClaimName, ClaimAvatar string
	// Existing refuses users whom no server key created.
	Existing bool
	Profile  Profile
	// JWKSURL or JWKSFile is where the key set is.
	JWKSURL, JWKSFile string
	// Refresh is how often the key set is fetched, MaxStale how long the last one serves when it cannot be, MaxTTL the longest
	// lifetime of a token.
	Refresh, MaxStale, MaxTTL time.Duration
}
