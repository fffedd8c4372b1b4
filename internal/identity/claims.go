package identity

import (
	"encoding/base64"
	"encoding/json"
	"math"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/parley-chat/parley/internal/jsonbody"
)

// maxUserClaim is the largest length of the user claim, in code points.
const maxUserClaim = 128

// claimSet is a token's claims or header: a JSON object without repeated members, which two parsers might understand differently.
type claimSet jsonbody.Object

// decodePart decodes the header or the claims of a token from base64url without padding.
func decodePart(part string) (claimSet, bool) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(part)
	if err != nil || strings.ContainsAny(part, "\r\n") { // encoding/base64 skips line breaks
		return nil, false
	}
	o, err := jsonbody.Members(b)
	if err != nil || o.Doubled() {
		return nil, false
	}
	return claimSet(o), true
}

func (c claimSet) get(name string) (json.RawMessage, bool) { return jsonbody.Object(c).Get(name) }

// text returns the value of a member that is a string.
func (c claimSet) text(name string) (string, bool) {
	raw, ok := c.get(name)
	if !ok {
		return "", false
	}
	return jsonbody.String(raw)
}

// at finds a claim. The whole path may be the name of a member (https://app/claim); otherwise its dots separate names of nested objects.
func (c claimSet) at(path string) (json.RawMessage, bool) {
	if raw, ok := c.get(path); ok {
		return raw, true
	}
	outer, inner, dotted := strings.Cut(path, ".")
	if !dotted {
		return nil, false
	}
	raw, ok := c.get(outer)
	if !ok {
		return nil, false
	}
	o, err := jsonbody.Members(raw)
	if err != nil || o.Doubled() {
		return nil, false
	}
	return claimSet(o).at(inner)
}

// user returns the user claim. It refuses a value that Postgres can't store unchanged, or that JSON can't distinguish from another one: two
// identities must never become one user.
func (c claimSet) user(path string) (string, bool) {
	raw, ok := c.at(path)
	if !ok {
		return "", false
	}
	s, ok := jsonbody.String(raw)
	if !ok || !ValidExternalID(s) {
		return "", false
	}
	return s, true
}

// ValidExternalID reports whether a text may be an external id: 1 to 128 code points, without NUL, which Postgres refuses, and without
// U+FFFD, to which encoding/json converts all invalid characters.
func ValidExternalID(s string) bool {
	n := utf8.RuneCountInString(s)
	return n >= 1 && n <= maxUserClaim && utf8.ValidString(s) && !strings.ContainsAny(s, "\x00\uFFFD")
}

// time returns a claim that is in seconds since 1970. given is false if it is absent. ok is false if it is given but not a time.
func (c claimSet) time(name string) (at time.Time, given, ok bool) {
	raw, given := c.get(name)
	if !given {
		return time.Time{}, false, true
	}
	var seconds float64
	const latest = 1 << 40
	if err := json.Unmarshal(raw, &seconds); err != nil || string(raw) == "null" || math.Abs(seconds) > latest {
		return time.Time{}, true, false
	}
	whole, part := math.Modf(seconds)
	return time.Unix(int64(whole), int64(part*1e9)), true, true
}

// audiences returns the claim aud, which is a string or a list of strings; nil if it is neither.
func (c claimSet) audiences() []string {
	raw, ok := c.get("aud")
	if !ok {
		return nil
	}
	if one, ok := jsonbody.String(raw); ok {
		return []string{one}
	}
	var list []*string
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil
	}
	out := make([]string, 0, len(list))
	for _, s := range list {
		if s == nil {
			return nil
		}
		out = append(out, *s)
	}
	return out
}
