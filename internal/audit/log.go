package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"github.com/parley-chat/parley/internal/cursor"
	"github.com/parley-chat/parley/internal/lifecycle"
	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/timestamp"
)

// Recorded is an entry as it is listed.
type Recorded struct {
	ID        string          `json:"id"`
	At        timestamp.Time  `json:"at"`
	Actor     RecordedActor   `json:"actor"`
	Action    string          `json:"action"`
	Target    RecordedTarget  `json:"target"`
	RequestID string          `json:"requestId"`
	IP        string          `json:"ip"`
	Detail    json.RawMessage `json:"detail"`
}

// RecordedActor is the author of a change; both members are null for the operator.
type RecordedActor struct {
	UserID *string `json:"userId"`
	KeyID  *string `json:"keyId"`
}

// RecordedTarget is the changed object.
type RecordedTarget struct {
	Type string `json:"type"`
	ID   string `json:"id"`
}

// Filter selects entries. Empty fields select all.
type Filter struct {
	// Actor is the id of a user or of a key.
	Actor string
	// Action is one action, Target the id of what was changed.
	Action, Target string
	// From and To bound the time: from the first on, before the second.
	From, To *time.Time
	After    *cursor.Position
	Limit    int
}

// Log is the audit log.
type Log struct {
	db   *postgres.DB
	keep time.Duration
	log  *slog.Logger
}

// NewLog makes the log, whose Run forgets entries that are older than keep.
func NewLog(db *postgres.DB, keep time.Duration, log *slog.Logger) *Log {
	return &Log{db: db, keep: keep, log: log}
}

// List reads a page of the log, the newest first.
func (l *Log) List(ctx context.Context, f Filter) (list []Recorded, more bool, err error) {
	var w postgres.Where
	if f.Actor != "" {
		w.And("(actor_user_id = %[1]s OR actor_key_id = %[1]s)", f.Actor)
	}
	if f.Action != "" {
		w.And("action = %s", f.Action)
	}
	if f.Target != "" {
		w.And("target_id = %s", f.Target)
	}
	if f.From != nil {
		w.And("at >= %s", *f.From)
	}
	if f.To != nil {
		w.And("at < %s", *f.To)
	}
	if f.After != nil {
		w.And("(at, id) < (%s::timestamptz, %s::uuid)", f.After.Time, f.After.ID)
	}
	list, err = postgres.Collect(ctx, l.db.SQL, func(r postgres.Row, v *Recorded) error {
		return r.Scan(&v.ID, &v.At, &v.Actor.UserID, &v.Actor.KeyID, &v.Action, &v.Target.Type, &v.Target.ID, &v.RequestID, &v.IP, (*[]byte)(&v.Detail))
	}, `SELECT id, at, actor_user_id, actor_key_id, action, target_type, target_id, request_id, ip, detail
		FROM audit_log WHERE `+w.SQL()+` ORDER BY at DESC, id DESC LIMIT `+w.Arg(f.Limit+1), w.Args()...)
	if err != nil {
		return nil, false, fmt.Errorf("read the audit log: %w", err)
	}
	if len(list) > f.Limit {
		return list[:f.Limit], true, nil
	}
	return list, false, nil
}

const (
	// sweepEvery is how often entries that are too old are looked for, sweepBatch how many go in one statement.
	sweepEvery = time.Hour
	sweepBatch = 5000
)

// Run deletes entries that are older than the log keeps, until ctx ends. Any number of pods may run it at once.
func (l *Log) Run(ctx context.Context) error {
	return lifecycle.Every(ctx, sweepEvery, l.sweep)
}

func (l *Log) sweep(ctx context.Context) {
	for {
		res, err := l.db.SQL.ExecContext(ctx, `DELETE FROM audit_log WHERE id IN (SELECT id FROM audit_log
			WHERE at < clock_timestamp() - make_interval(secs => $1) ORDER BY at, id LIMIT $2 FOR UPDATE SKIP LOCKED)`, l.keep.Seconds(), sweepBatch)
		if err != nil {
			l.log.Warn("old entries of the audit log could not be removed", "error", err)
			return
		}
		if n, err := res.RowsAffected(); err != nil || n < sweepBatch {
			return
		}
	}
}
