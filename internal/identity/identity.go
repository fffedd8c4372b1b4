// Package identity is the domain of external tokens: JWTs with which the product's own issuer identifies its users to Parley.
//
//	token ──► Verifier: signature and claims ──► Service: the user of the external id, made by its first token
//	              ▲
//	          Source: the issuer's key set, fetched at each refresh, and for an unknown kid
//
// It fails closed: it accepts no external token while there is no key set, or if the key set could not be fetched again for MaxStale.
package identity

import (
	"errors"
	"time"

	"github.com/parley-chat/parley/internal/principal"
)

// ErrUnauthorized is returned for a token that is not accepted. The reason is in the log and in parley_auth_rejected_total; clients don't
// learn it.
var ErrUnauthorized = principal.ErrUnauthorized

// Errors in addition to ErrUnauthorized.
var (
	// ErrUnavailable is returned while there is no key set, or only one that is older than MaxStale.
	ErrUnavailable = errors.New("the issuer's keys cannot be had")
	// ErrNotProvisioned is returned for a valid token whose user was not created by a server key, if that is required (Config.Existing).
	ErrNotProvisioned = errors.New("this user was not created yet")
)

// Profile says whether a user's name and picture come from tokens or from the user.
type Profile string

// The values of Profile.
const (
	// ProfileSync updates name and picture whenever a token has other ones.
	ProfileSync Profile = "sync"
	// ProfileFirst takes them from the first token only. After that the user may change them.
	ProfileFirst Profile = "first"
)

// Config has the settings of external tokens.
type Config struct {
	// Issuer and Audience are compared exactly. A token needs one of the audiences.
	Issuer   string
	Audience []string
	// Algorithms are the allowed signature algorithms of tokens.
	Algorithms []string
	// The names or paths of the claims with the external id and the profile; "" for none.
	ClaimUser, ClaimUsername, ClaimName, ClaimAvatar string
	// Existing refuses tokens of users that were not created by a server key.
	Existing bool
	Profile  Profile
	// JWKSURL or JWKSFile is where the key set is; the other one is "".
	JWKSURL, JWKSFile string
	// Refresh is how often the key set is fetched, MaxStale how long the last one is used while fetches fail, and MaxTTL the longest
	// allowed lifetime of a token.
	Refresh, MaxStale, MaxTTL time.Duration
}
