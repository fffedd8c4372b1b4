package friend

import (
	"context"
	"fmt"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/parley-chat/parley/internal/audit"
	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/cursor"
	"github.com/parley-chat/parley/internal/postgres"
)

// store holds the SQL of friendships and blocks.
type store struct {
	db *postgres.DB
}

// friendship is a row of friendships: a request, or one direction of a friendship. The database sets its time.
type friendship struct {
	UserID, FriendID, Status string
}

// blocking is a row of blocks.
type blocking struct {
	UserID, BlockedID string
}

// TableName names the table to GORM.
func (blocking) TableName() string { return "blocks" }

// between selects the friendships of two users, in both directions.
func between(userID, otherID string) clause.Expression {
	direction := func(from, to string) clause.Expression {
		return clause.And(clause.Eq{Column: "user_id", Value: from}, clause.Eq{Column: "friend_id", Value: to})
	}
	return clause.Or(direction(userID, otherID), direction(otherID, userID))
}

// pair is the relation of two users, read under the lock of both their rows.
type pair struct {
	own, other chat.Profile
	// mine is the state of the user's request to the other, theirs of the other's request; "" for none.
	mine, theirs string
}

// lockUsers locks two users' rows in the order of their ids and reads their relation. It returns ErrUserNotFound if the other
// user does not exist.
func lockUsers(tx *gorm.DB, userID, otherID string) (pair, error) {
	users, err := postgres.Collect(postgres.Context(tx), postgres.In(tx), chat.ScanProfile, `SELECT id, username, display_name, avatar_url FROM users
		WHERE id IN ($1, $2) AND deleted_at IS NULL ORDER BY id FOR NO KEY UPDATE`, userID, otherID)
	if err != nil {
		return pair{}, fmt.Errorf("lock two users: %w", err)
	}
	var p pair
	for _, u := range users {
		switch u.ID {
		case userID:
			p.own = u
		case otherID:
			p.other = u
		}
	}
	if p.own.ID == "" || p.other.ID == "" {
		return pair{}, ErrUserNotFound
	}
	rows, err := gorm.G[friendship](tx).Where(between(userID, otherID)).Find(postgres.Context(tx))
	if err != nil {
		return pair{}, fmt.Errorf("read a friendship: %w", err)
	}
	for _, r := range rows {
		if r.UserID == userID {
			p.mine = r.Status
		} else {
			p.theirs = r.Status
		}
	}
	return p, nil
}

// lockPair is lockUsers for two users without a block between them; with one it returns ErrUserNotFound.
func lockPair(tx *gorm.DB, userID, otherID string) (pair, error) {
	p, err := lockUsers(tx, userID, otherID)
	if err != nil {
		return pair{}, err
	}
	hidden, err := postgres.Value[bool](postgres.Context(tx), postgres.In(tx),
		`SELECT EXISTS (SELECT FROM blocks WHERE (user_id = $1 AND blocked_id = $2) OR (user_id = $2 AND blocked_id = $1))`, userID, otherID)
	if err != nil {
		return pair{}, fmt.Errorf("look up a block: %w", err)
	}
	if hidden {
		return pair{}, ErrUserNotFound
	}
	return p, nil
}

func count(tx *gorm.DB, userID, status string) (int64, error) {
	n, err := gorm.G[friendship](tx).Where(map[string]any{"user_id": userID, "status": status}).Count(postgres.Context(tx), "*")
	if err != nil {
		return 0, fmt.Errorf("count friends: %w", err)
	}
	return n, nil
}

// ask inserts a request. The requesting user's row is locked, so the count is exact.
func ask(tx *gorm.DB, userID, otherID string) error {
	n, err := count(tx, userID, StatusPending)
	if err != nil {
		return err
	}
	if n >= MaxOutgoing {
		return ErrTooManyRequests
	}
	err = gorm.G[friendship](tx).Create(postgres.Context(tx), &friendship{UserID: userID, FriendID: otherID, Status: StatusPending})
	if err != nil {
		return fmt.Errorf("insert a request: %w", err)
	}
	return nil
}

// befriend makes two users friends, with one row per direction, no matter which of them asked.
func befriend(tx *gorm.DB, userID, otherID string) error {
	for _, u := range []string{userID, otherID} {
		n, err := count(tx, u, StatusAccepted)
		if err != nil {
			return err
		}
		if n >= MaxFriends {
			return ErrTooManyFriends
		}
	}
	_, err := postgres.Exec(tx, `INSERT INTO friendships (user_id, friend_id, status, created_at)
		SELECT a, b, 'accepted', t.now FROM (SELECT clock_timestamp() AS now) t, (VALUES ($1::uuid, $2::uuid), ($2, $1)) v (a, b),`+audit.ActorSQL("$3")+`
		ON CONFLICT (user_id, friend_id) DO UPDATE SET status = 'accepted', created_at = excluded.created_at`,
		userID, otherID, audit.As(postgres.Context(tx), userID).ForOutbox())
	if err != nil {
		return fmt.Errorf("insert a friendship: %w", err)
	}
	return nil
}

// part deletes whatever two are to each other.
func part(tx *gorm.DB, userID, otherID string) error {
	_, err := postgres.Exec(tx, `DELETE FROM friendships USING`+audit.ActorSQL("$3")+`WHERE (user_id = $1 AND friend_id = $2) OR (user_id = $2 AND friend_id = $1)`,
		userID, otherID, audit.As(postgres.Context(tx), userID).ForOutbox())
	if err != nil {
		return fmt.Errorf("delete a friendship: %w", err)
	}
	return nil
}

// block inserts a block. It reports whether it is new.
func block(tx *gorm.DB, userID, otherID string) (bool, error) {
	inserted := gorm.WithResult()
	once := clause.OnConflict{DoNothing: true}
	if err := gorm.G[blocking](tx, once, inserted).Create(postgres.Context(tx), &blocking{UserID: userID, BlockedID: otherID}); err != nil {
		return false, fmt.Errorf("insert a block: %w", err)
	}
	return inserted.RowsAffected > 0, nil
}

// unblock removes a block. It reports whether there was one.
func (s *store) unblock(ctx context.Context, userID, otherID string) (bool, error) {
	var n int64
	err := postgres.Write(ctx, s.db.SQL, func(ctx context.Context, q postgres.Querier) error {
		r, err := q.ExecContext(ctx, `DELETE FROM blocks WHERE user_id = $1 AND blocked_id = $2`, userID, otherID)
		if err != nil {
			return fmt.Errorf("delete a block: %w", err)
		}
		if n, err = r.RowsAffected(); err == nil && n == 0 {
			return postgres.ErrUnchanged
		}
		return err
	})
	return n > 0, err
}

// The sources of the lists: r is the relation and u the other user.
const (
	friendsSQL  = `friendships r JOIN users u ON u.id = r.friend_id WHERE r.user_id = $1 AND r.status = 'accepted'`
	outgoingSQL = `friendships r JOIN users u ON u.id = r.friend_id WHERE r.user_id = $1 AND r.status = 'pending'`
	incomingSQL = `friendships r JOIN users u ON u.id = r.user_id WHERE r.friend_id = $1 AND r.status = 'pending'`
	// A user who blocked first looks the same as an unknown one: blocking them is a 204, as for any id, and shows no profile.
	blocksSQL = `blocks r JOIN users u ON u.id = r.blocked_id WHERE r.user_id = $1
		AND NOT EXISTS (SELECT FROM blocks b WHERE b.user_id = r.blocked_id AND b.blocked_id = $1 AND b.created_at < r.created_at)`
)

// list reads a page of one of the lists, before a position.
func (s *store) list(ctx context.Context, from, userID string, before *cursor.Position, limit int) ([]Relation, error) {
	query := `SELECT u.id, u.username, u.display_name, u.avatar_url, r.created_at FROM ` + from
	args := []any{userID, limit}
	if before != nil {
		query += ` AND (r.created_at, u.id) < ($3::timestamptz, $4::uuid)`
		args = append(args, before.Time, before.ID)
	}
	out, err := postgres.Collect(ctx, s.db.SQL, func(r postgres.Row, v *Relation) error {
		return r.Scan(&v.User.ID, &v.User.Username, &v.User.DisplayName, &v.User.AvatarURL, &v.CreatedAt)
	}, query+` ORDER BY r.created_at DESC, u.id DESC LIMIT $2`, args...)
	if err != nil {
		return nil, fmt.Errorf("list relations: %w", err)
	}
	return out, nil
}
