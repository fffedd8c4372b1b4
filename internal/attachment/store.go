package attachment

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/parley-chat/parley/internal/postgres"
)

// store holds the SQL of attachments but for that of a send, which is message's.
type store struct {
	db *sql.DB
}

// The states of a file, as the table names them.
const (
	statePending  = "pending"
	stateReady    = "ready"
	stateRejected = "rejected"
)

// file is a row.
type file struct {
	id, state, filename, contentType string
	size                             int64
	width, height                    int
}

// create notes an upload, unless its owner has too many whose URLs are still valid. The owner's row is locked so that two pods at
// once count each other's.
func (s *store) create(ctx context.Context, id, ownerID string, u *Upload, ttl time.Duration) error {
	return postgres.InTx(ctx, s.db, func(ctx context.Context, q postgres.Querier) error {
		if _, err := q.ExecContext(ctx, `SELECT FROM users WHERE id = $1 FOR NO KEY UPDATE`, ownerID); err != nil {
			return fmt.Errorf("note an upload: %w", err)
		}
		var pending int
		if err := q.QueryRowContext(ctx, `SELECT count(*) FROM attachments
			WHERE owner_id = $1 AND state = 'pending' AND upload_expires_at > clock_timestamp()`, ownerID).Scan(&pending); err != nil {
			return fmt.Errorf("count uploads: %w", err)
		}
		if pending >= maxPending {
			return ErrTooManyUploads
		}
		if _, err := q.ExecContext(ctx, `INSERT INTO attachments (id, owner_id, filename, content_type, size, upload_expires_at)
			VALUES ($1, $2, $3, $4, $5, clock_timestamp() + make_interval(secs => $6))`,
			id, ownerID, u.Filename, u.ContentType, u.Size, ttl.Seconds()); err != nil {
			return fmt.Errorf("note an upload: %w", err)
		}
		return nil
	})
}

const fileColumns = `id, state, filename, content_type, size, coalesce(width, 0), coalesce(height, 0)`

func scanFile(row interface{ Scan(...any) error }, f *file) error {
	return row.Scan(&f.id, &f.state, &f.filename, &f.contentType, &f.size, &f.width, &f.height)
}

// own reads an upload of the owner's.
func (s *store) own(ctx context.Context, id, ownerID string) (file, error) {
	var f file
	err := scanFile(s.db.QueryRowContext(ctx, `SELECT `+fileColumns+` FROM attachments WHERE id = $1 AND owner_id = $2`, id, ownerID), &f)
	if errors.Is(err, sql.ErrNoRows) {
		return file{}, ErrNotFound
	}
	if err != nil {
		return file{}, fmt.Errorf("read an upload: %w", err)
	}
	return f, nil
}

// finish moves a pending upload on and reports whether it did: another pod may have been first.
func (s *store) finish(ctx context.Context, id, state string, c checked) (bool, error) {
	first := false
	err := postgres.Write(ctx, s.db, func(ctx context.Context, q postgres.Querier) error {
		r, err := q.ExecContext(ctx, `UPDATE attachments
			SET state = $2, content_type = coalesce(nullif($3, ''), content_type), width = nullif($4, 0), height = nullif($5, 0)
			WHERE id = $1 AND state = 'pending'`, id, state, c.contentType, c.width, c.height)
		if err != nil {
			return fmt.Errorf("finish an upload: %w", err)
		}
		n, err := r.RowsAffected()
		if err != nil {
			return fmt.Errorf("finish an upload: %w", err)
		}
		if first = n == 1; !first {
			return postgres.ErrUnchanged
		}
		return nil
	})
	return first, err
}

// visibleSQL selects the users who may download a file, checked each time: the uploader, and the members of its message's conversation. Nobody
// gets the files of a deleted message or conversation.
const visibleSQL = `SELECT a.id, a.state, a.filename, a.content_type, a.size, coalesce(a.width, 0), coalesce(a.height, 0)
	FROM attachments a
	LEFT JOIN messages m ON m.id = a.message_id
	LEFT JOIN conversations c ON c.id = m.conversation_id
	WHERE a.id = ANY ($1::text[]::uuid[]) AND a.state = 'ready'
		AND (a.message_id IS NULL OR c.id IS NOT NULL AND m.deleted_at IS NULL AND c.deleted_at IS NULL)
		AND (a.owner_id = $2 OR EXISTS (
			SELECT FROM conversation_members cm WHERE cm.conversation_id = m.conversation_id AND cm.user_id = $2))`

// visible reads those of the files that the user may download, by id.
func (s *store) visible(ctx context.Context, ids []string, userID string) (map[string]file, error) {
	found, err := postgres.Collect(ctx, s.db, scanFile, visibleSQL, ids, userID)
	if err != nil {
		return nil, fmt.Errorf("read attachments: %w", err)
	}
	out := make(map[string]file, len(found))
	for _, f := range found {
		out[f.id] = f
	}
	return out, nil
}

// giveUpUnsent marks files removed that were announced too long ago and not sent, limit of them at most, and returns how many.
func (s *store) giveUpUnsent(ctx context.Context, at *time.Time, ttl time.Duration, limit int) (int, error) {
	r, err := s.db.ExecContext(ctx, `UPDATE attachments SET state = 'removed' WHERE id IN (
		SELECT id FROM attachments
		WHERE message_id IS NULL AND state IN ('pending', 'ready')
			AND created_at < coalesce($1::timestamptz, clock_timestamp()) - make_interval(secs => $2)
		ORDER BY created_at LIMIT $3 FOR UPDATE SKIP LOCKED)`, at, ttl.Seconds(), limit)
	if err != nil {
		return 0, fmt.Errorf("give up unsent files: %w", err)
	}
	n, err := r.RowsAffected()
	if err != nil {
		return 0, fmt.Errorf("give up unsent files: %w", err)
	}
	return int(n), nil
}

// markDeleted marks the files of deleted conversations removed, limit of them at most, and returns whether there may be more.
func (s *store) markDeleted(ctx context.Context, limit int) (more bool, err error) {
	var conversation string
	err = s.db.QueryRowContext(ctx, `SELECT conversation_id FROM attachment_conversations ORDER BY conversation_id LIMIT 1`).Scan(&conversation)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read deleted conversations: %w", err)
	}
	r, err := s.db.ExecContext(ctx, `UPDATE attachments SET state = 'removed' WHERE id IN (
		SELECT id FROM attachments WHERE conversation_id = $1 AND message_id IS NOT NULL AND state = 'ready'
		ORDER BY id LIMIT $2 FOR UPDATE)`, conversation, limit)
	if err != nil {
		return false, fmt.Errorf("mark a conversation's files: %w", err)
	}
	n, err := r.RowsAffected()
	if err == nil && n == 0 {
		_, err = s.db.ExecContext(ctx, `DELETE FROM attachment_conversations WHERE conversation_id = $1`, conversation)
	}
	if err != nil {
		return false, fmt.Errorf("mark a conversation's files: %w", err)
	}
	return true, nil
}

// removable is a file that nobody gets any more.
type removable struct {
	id string
	// settled says that its upload can make no object any more, so that the row may go.
	settled bool
}

// removable reads the files to remove whose ids follow one, in order.
func (s *store) removable(ctx context.Context, at *time.Time, after string, limit int) ([]removable, error) {
	out, err := postgres.Collect(ctx, s.db, func(r postgres.Row, v *removable) error { return r.Scan(&v.id, &v.settled) },
		`SELECT id, upload_expires_at < coalesce($1::timestamptz, clock_timestamp()) - make_interval(secs => $2)
		FROM attachments
		WHERE state IN ('rejected', 'removed') AND ($3 = '' OR id > nullif($3, '')::uuid)
		ORDER BY id LIMIT $4`, at, settleAfter.Seconds(), after, limit)
	if err != nil {
		return nil, fmt.Errorf("read files to remove: %w", err)
	}
	return out, nil
}

// forget drops the rows of removed files, but for those that another worker drops now.
func (s *store) forget(ctx context.Context, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	if _, err := s.db.ExecContext(ctx, `DELETE FROM attachments WHERE id IN (
		SELECT id FROM attachments WHERE id = ANY ($1::text[]::uuid[]) AND state IN ('rejected', 'removed') FOR UPDATE SKIP LOCKED)`, ids); err != nil {
		return fmt.Errorf("forget removed files: %w", err)
	}
	return nil
}
