package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"

	"github.com/parley-chat/parley/internal/postgres"
)

// request is the entry of a request that a key makes for a user.
type request struct {
	actor Actor
	entry Entry
	// replacedIn is the transaction in which Record wrote other entries in its place.
	replacedIn postgres.Querier
}

type requestKey struct{}

// WithRequest returns the context of a request that a key makes for a user. The entry is the companion of its change
// (postgres.WithCompanion): it is committed with the change, and not at all if the request is refused or changes nothing. Reads that Redis accepts
// are the exception: their entry is committed before, so it may exist without them.
func WithRequest(ctx context.Context, a Actor, e Entry) context.Context {
	r := &request{actor: a, entry: e}
	ctx = context.WithValue(With(ctx, a), requestKey{}, r)
	return postgres.WithCompanion(ctx, r.write)
}

func requestOf(ctx context.Context) *request {
	r, _ := ctx.Value(requestKey{}).(*request)
	return r
}

func (r *request) write(ctx context.Context, q postgres.Querier) error {
	if r.replacedIn == q {
		return nil
	}
	return insert(ctx, q, r.actor, []Entry{r.entry})
}

// replace notes that entries are written instead of the request's, and returns them with its detail.
func (r *request) replace(q postgres.Querier, entries []Entry) []Entry {
	r.replacedIn = q
	out := make([]Entry, len(entries))
	for i, e := range entries {
		detail := maps.Clone(r.entry.Detail)
		maps.Copy(detail, e.Detail)
		e.Detail = detail
		out[i] = e
	}
	return out
}

// Signed is an entry with its actor, for a change that is committed together with those of other requests.
type Signed struct {
	Actor Actor
	Entry Entry
}

// OfRequest is the entry of the context's request, nil for a request that no key makes for a user.
func OfRequest(ctx context.Context) *Signed {
	r := requestOf(ctx)
	if r == nil {
		return nil
	}
	return &Signed{r.actor, r.entry}
}

// JSON is the entry as message/send.sql and message/react.sql read it.
func (s Signed) JSON() (string, error) {
	b, err := json.Marshal(s.Actor.row(s.Entry))
	if err != nil {
		return "", fmt.Errorf("encode an entry of the audit log: %w", err)
	}
	return string(b), nil
}
