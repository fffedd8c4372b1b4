// Package principal says on whose behalf a request is made. The edge turns every kind of bearer token into a Principal, in one place.
// All code behind it uses the Principal and never the token.
package principal

import (
	"errors"
	"time"
)

// ErrUnauthorized is returned for every bearer token that does not hold, whatever is wrong with it: a client learns no more.
var ErrUnauthorized = errors.New("the access token is missing, not valid or its session has ended")

// Kind is which kind of bearer a request came with.
type Kind int

// The kinds of bearers.
const (
	// Anonymous is no bearer, or one that does not hold.
	Anonymous Kind = iota
	// Session is an access token that Parley issued; it ends with its session.
	Session
	// External is a token of the product's own issuer; it ends at ExpiresAt, and with the key that signed it.
	External
	// Key is a server key, which may act for a user.
	Key
)

// Principal is the author of a request. It is a value and may be kept.
type Principal struct {
	Kind Kind
	// UserID is the user of the request: the token's user, or the one for whom a key acts. It is empty for a key that acts for
	// nobody, and for an external token until its user was looked up.
	UserID string
	// SessionID is the session of an access token that Parley issued, else empty.
	SessionID string
	// ExternalID is the user claim of an external token, byte for byte, else empty.
	ExternalID string
	// Signer names the key of the key set that signed an external token.
	Signer string
	// ExpiresAt is when an external token ends, else zero.
	ExpiresAt time.Time
	// KeyID is the server key, else empty.
	KeyID string
	// Scopes are the server key's.
	Scopes Scopes
}
