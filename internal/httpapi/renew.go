package httpapi

import (
	"context"
	"encoding/json"

	"github.com/parley-chat/parley/internal/invalid"
	"github.com/parley-chat/parley/internal/principal"
	"github.com/parley-chat/parley/internal/realtime"
	"github.com/parley-chat/parley/internal/timestamp"
)

// authData is the data of an auth frame.
type authData struct {
	Token string `json:"token"`
}

// Check adds a fault if there is no token.
func (d *authData) Check(f *invalid.Faults) {
	if d.Token == "" {
		f.Add("token", "must be an access token")
	}
}

// renewed is the ack of an auth frame. ExpiresAt is when the socket will be closed, null for a socket that ends with its session.
type renewed struct {
	ExpiresAt *timestamp.Time `json:"expiresAt"`
}

// renew replaces the socket's token by a newer one of the same user. An invalid token gets an error response, and the socket keeps its expiry. A
// token of another user closes the socket, because the client shows data of the first user.
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
		return nil, errInternal // the socket is being closed
	}
	if r.session.SessionID == "" && p.Kind == principal.External {
		r.session.Extend(p.ExpiresAt, p.Signer)
		if err := r.server.stillAdmitted(p); err != nil { // it ended before Extend
			r.session.Close(CloseCodeOf(err))
		}
	}
	var ack renewed
	if at := r.session.Expires(); !at.IsZero() {
		ack.ExpiresAt = &timestamp.Time{Time: at}
	}
	return ack, nil
}
