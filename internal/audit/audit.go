// Package audit records each write by a server key and each action of a moderator. An entry is written in the transaction of
// the change that it describes, so neither exists without the other. It contains no message content and no secrets.
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

// Record writes entries in the transaction of the change, in the name of the context's actor.
func Record(ctx context.Context, tx *gorm.DB, entries ...Entry) error {
	if len(entries) == 0 {
		return nil
	}
	a := From(ctx)
	rows := make([]row, len(entries))
	for i, e := range entries {
		rows[i] = row{ID: id.New(), Action: e.Action, Type: e.TargetType, Target: e.TargetID, Detail: e.Detail}
		if e.Detail == nil {
			rows[i].Detail = map[string]any{}
		}
	}
	list, err := json.Marshal(rows)
	if err != nil {
		return fmt.Errorf("record in the audit log: %w", err)
	}
	_, err = postgres.Exec(tx, `INSERT INTO audit_log (id, actor_user_id, actor_key_id, action, target_type, target_id, request_id, ip, detail)
		SELECT e.id, nullif($1, '')::uuid, nullif($2, '')::uuid, e.action, e.type, e.target, $3, $4, e.detail
		FROM jsonb_to_recordset($5::jsonb) AS e (id uuid, action text, type text, target text, detail jsonb)`,
		a.UserID, a.KeyID, a.RequestID, a.IP, string(list))
	if err != nil {
		return fmt.Errorf("record in the audit log: %w", err)
	}
	return nil
}

type row struct {
	ID     string         `json:"id"`
	Action string         `json:"action"`
	Type   string         `json:"type"`
	Target string         `json:"target"`
	Detail map[string]any `json:"detail"`
}
