// Package audit records each write by a server key and each action of a moderator. An entry is written in the transaction of
// the change that it describes, so neither exists without the other. Reads that are stored in Redis are the exception: their entry is committed
// first. An entry contains no message content and no secrets.
package audit

import (
	"context"
	"encoding/json"
	"fmt"

	"gorm.io/gorm"

	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/postgres"
)

// Actor identifies the author of a change and the request. The zero value is the operator at the command line.
type Actor struct {
	// UserID is the user whose request it is, or for whom a key acts.
	UserID string
	// KeyID is the server key, if one made the request.
	KeyID string
	// RequestID and IP are the request's.
	RequestID, IP string
}

type actorKey struct{}

// With returns a context that carries the actor of a request.
func With(ctx context.Context, a Actor) context.Context { return context.WithValue(ctx, actorKey{}, a) }

// From returns the actor of a context, the zero Actor if there is none.
func From(ctx context.Context) Actor {
	a, _ := ctx.Value(actorKey{}).(Actor)
	return a
}

// Types of targets.
const (
	TargetUser         = "user"
	TargetConversation = "conversation"
	TargetMessage      = "message"
	TargetKey          = "key"
)

// Entry is one change.
type Entry struct {
	// Action is <thing>.<verb>, such as user.ban (docs/audit.md lists them).
	Action string
	// TargetType and TargetID say what was changed.
	TargetType, TargetID string
	// Detail has further properties; nil for none.
	Detail map[string]any
}

// recordSQL inserts entries. Its parameter is a JSON array of rows.
const recordSQL = `INSERT INTO audit_log (id, actor_user_id, actor_key_id, action, target_type, target_id, request_id, ip, detail)
	SELECT e.id, e.user_id, e.key_id, e.action, e.type, e.target, e.request_id, e.ip, e.detail
	FROM jsonb_to_recordset($1::text::jsonb) AS e (id uuid, user_id uuid, key_id uuid, action text, type text, target text, request_id text, ip text, detail jsonb)`

// row is an entry as recordSQL, message/send.sql and message/react.sql read it.
type row struct {
	ID        string         `json:"id"`
	UserID    *string        `json:"user_id"`
	KeyID     *string        `json:"key_id"`
	Action    string         `json:"action"`
	Type      string         `json:"type"`
	Target    string         `json:"target"`
	RequestID string         `json:"request_id"`
	IP        string         `json:"ip"`
	Detail    map[string]any `json:"detail"`
}

func (a Actor) row(e Entry) row {
	if e.Detail == nil {
		e.Detail = map[string]any{}
	}
	return row{id.New(), orNull(a.UserID), orNull(a.KeyID), e.Action, e.TargetType, e.TargetID, a.RequestID, a.IP, e.Detail}
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// Record writes entries in the transaction of the change, in the name of the context's actor. In a request of an acting key they take the
// place of the entry of the request.
func Record(ctx context.Context, tx *gorm.DB, entries ...Entry) error {
	q := postgres.In(tx)
	if r := requestOf(ctx); r != nil && len(entries) > 0 {
		entries = r.replace(q, entries)
	}
	return insert(postgres.Context(tx), q, From(ctx), entries)
}

func insert(ctx context.Context, q postgres.Querier, a Actor, entries []Entry) error {
	if len(entries) == 0 {
		return nil
	}
	rows := make([]row, len(entries))
	for i, e := range entries {
		rows[i] = a.row(e)
	}
	list, err := json.Marshal(rows)
	if err != nil {
		return fmt.Errorf("record in the audit log: %w", err)
	}
	if _, err := q.ExecContext(ctx, recordSQL, string(list)); err != nil {
		return fmt.Errorf("record in the audit log: %w", err)
	}
	return nil
}
