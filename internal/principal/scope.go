package principal

import (
	"slices"
	"strings"
)

// Scopes of server keys. Each allows all operations of its kind; with the suffix ":read", only reading.
const (
	Users         = "users"
	Conversations = "conversations"
	Messages      = "messages"
	Act           = "act"
	Tokens        = "tokens"
	Moderation    = "moderation"
	Webhooks      = "webhooks"
	Audit         = "audit"
	Keys          = "keys"
)

const read = ":read"

// Read returns the read-only variant of a scope.
func Read(scope string) string { return scope + read }

// AllScopes are the scopes that a key can have, those that only read left out.
func AllScopes() Scopes {
	return Scopes{Users, Conversations, Messages, Act, Tokens, Moderation, Webhooks, Audit, Keys}
}

// ValidScope reports whether there is such a scope.
func ValidScope(scope string) bool {
	return slices.Contains(AllScopes(), strings.TrimSuffix(scope, read))
}

// Scopes are the permissions of a server key.
type Scopes []string

// Allow reports whether the scopes include the needed one. The scope that changes things includes the one that reads them.
func (s Scopes) Allow(needed string) bool {
	return slices.Contains(s, needed) || slices.Contains(s, strings.TrimSuffix(needed, read))
}

// Beyond returns those of the wanted scopes that s does not include, in their order.
func (s Scopes) Beyond(wanted Scopes) Scopes {
	var out Scopes
	for _, w := range wanted {
		if !s.Allow(w) {
			out = append(out, w)
		}
	}
	return out
}
