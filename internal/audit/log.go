package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
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
	Actor     RecordedActor   `json:"actor" gorm:"embedded"`
	Action    string          `json:"action"`
	Target    RecordedTarget  `json:"target" gorm:"embedded"`
	RequestID string          `json:"requestId"`
	IP        string          `json:"ip"`
	Detail    json.RawMessage `json:"detail" gorm:"type:jsonb"`
}

// RecordedActor is the author of a change; both members are null for the operator.
type RecordedActor struct {
	UserID *string `json:"userId"`
	KeyID  *string `json:"keyId"`
}

// RecordedTarget is the changed object.
type RecordedTarget struct {
	Type string `json:"type"`
	ID   string `json:"id" gorm:"column:target_id"`
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

// Record writes an entry in a separate transaction, before the change itself is made.
func (l *Log) Record(ctx context.Context, e Entry) error {
	return Record(ctx, l.db.Gorm.WithContext(ctx), e)
}

// List reads a page of the log, the newest first.
func (l *Log) List(ctx context.Context, f Filter) (list []Recorded, more bool, err error) {
	where, args := []string{"true"}, []any{}
	and := func(cond string, a ...any) {
		where, args = append(where, cond), append(args, a...)
	}
	if f.Actor != "" {
		and("(actor_user_id = ? OR actor_key_id = ?)", f.Actor, f.Actor)
	}
	if f.Action != "" {
		and("action = ?", f.Action)
	}
	if f.Target != "" {
		and("target_id = ?", f.Target)
	}
	if f.From != nil {
		and("at >= ?", *f.From)
	}
	if f.To != nil {
		and("at < ?", *f.To)
	}
	if f.After != nil {
		and("(at, id) < (?, ?)", f.After.Time, f.After.ID)
	}
	list = []Recorded{}
	err = l.db.Gorm.WithContext(ctx).Raw(`SELECT id, at, actor_user_id AS user_id, actor_key_id AS key_id, action, target_type AS type, target_id,
		request_id, ip, detail FROM audit_log WHERE `+strings.Join(where, " AND ")+` ORDER BY at DESC, id DESC LIMIT ?`, append(args, f.Limit+1)...).
		Scan(&list).Error
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
