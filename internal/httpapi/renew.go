package httpapi

import (
	"context"
	"encoding/json"

	"github.com/parley-chat/parley/internal/invalid"
	"github.com/parley-chat/parley/internal/principal"
	"github.com/parley-chat/parley/internal/realtime"
	"github.com/parley-chat/parley/internal/timestamp"
)

// authData is the data of an auth.
type authData struct {
	Token string `json:"token"`
}

// Check adds a fault if there is no token.
func (d *authData) Check(f *invalid.Faults) {
	if d.Token == "" {
		f.Add("token", "must be an access token")
	}
}

// renewed is the ack of an auth: until when the socket goes on, null for one that ends with its session.
type renewed struct {
	ExpiresAt *timestamp.Time `json:"expiresAt"`
}

// renew gives the socket a newer token of its user. One that does not hold is answered, and the socket goes on until its time; one of
// another user closes it, since what the client shows would be somebody else's from here on.
func (r *reader) renew(ctx context.Context, data json.RawMessage) (any, error) {
	var in authData
	if err := decodeData(data, &in); err != nil {
		return nil, err
	}
	b := r.server.recognize(ctx, in.Token)
	if b.err == nil && b.Kind == principal.Key {
		return nil, principal.ErrUnauthorized
	}
	p, err := r.server.admitted(ctx, b)
	if err != nil {
		return nil, err
	}
	if p.UserID != r.session.UserID {
		r.session.Close(realtime.CloseSessionOver)
		return nil, errInternal // closed
	}
	if r.session.SessionID == "" && p.Kind == principal.External {
		r.session.Extend(p.ExpiresAt, p.Signer)
		if err := r.server.holds(p); err != nil { // it ended meanwhile
			r.session.Close(CloseCodeOf(err))
		}
	}
	var ack renewed
	if at := r.session.Expires(); !at.IsZero() {
		ack.ExpiresAt = &timestamp.Time{Time: at}
	}
	return ack, nil
}
