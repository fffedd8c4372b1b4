package attachment

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/parley-chat/parley/internal/postgres"
)

// store holds the SQL of attachments, except that of sends, which is in package message.
type store struct {
	db *sql.DB
}

// The states of a file, as the table names them.
const (
	statePending  = "pending"
	stateReady    = "ready"
	stateRejected = "rejected"
)

// file is a row of attachments.
type file struct {
	id, state, filename, contentType string
	size                             int64
	width, height                    int
}

// create stores a pending upload. It returns ErrTooManyUploads if the owner has maxPending whose URLs are still valid. It locks the owner's
// row, so that concurrent requests count each other's uploads.
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

// own reads one of the owner's files. It returns ErrNotFound if the owner has no such file.
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

// finish sets the state and the result of a pending upload. It returns false if another pod has done so first.
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

// visibleSQL reads the files that a user may download: those that the user uploaded, and those of messages in the user's conversations.
// Files of deleted messages and conversations are left out.
const visibleSQL = `SELECT a.id, a.state, a.filename, a.content_type, a.size, coalesce(a.width, 0), coalesce(a.height, 0)
	FROM attachments a
	LEFT JOIN messages m ON m.id = a.message_id
	LEFT JOIN conversations c ON c.id = m.conversation_id
	WHERE a.id = ANY ($1::text[]::uuid[]) AND a.state = 'ready'
		AND (a.message_id IS NULL OR c.id IS NOT NULL AND m.deleted_at IS NULL AND c.deleted_at IS NULL)
		AND (a.owner_id = $2 OR EXISTS (
			SELECT FROM conversation_members cm WHERE cm.conversation_id = m.conversation_id AND cm.user_id = $2))`

// visible reads the files among ids that the user may download, by id.
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

// giveUpUnsent marks up to limit files as removed that were announced longer than ttl ago and not sent. It returns how many.
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

// markDeleted marks up to limit files of a deleted conversation as removed. more is set if there may be others.
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

// removable is a rejected or removed file.
type removable struct {
	id string
	// settled is set once its upload can no longer create an object, so the row may be removed after the object.
	settled bool
}

// removable reads up to limit removable files in the order of their ids, from after on; "" is the start.
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

// forget removes the rows of removed files, except those that another worker is removing.
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
