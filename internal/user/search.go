package user

import (
	"context"
	"fmt"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/invalid"
)

// Bounds of a search.
const (
	minQuery = 2
	maxQuery = 50
	// minSimilar is how many characters a misspelling has at least: fewer are similar to everything.
	minSimilar = 4
)

// Query is a search for users.
type Query struct {
	Text  string
	Limit int
}

// Check normalises the query and notes its faults.
func (q *Query) Check(f *invalid.Faults) {
	invalid.Text{Min: minQuery, Max: maxQuery, Trim: true}.Check(f, "q", &q.Text)
	q.Text = norm.NFC.String(strings.ToLower(strings.Join(strings.Fields(q.Text), " ")))
}

// Search finds users by prefixes of the username and of the display name's words, and where these are few by similarity.
// The best come first: exact, prefix, similar. It leaves out the viewer, and whom a block hides.
func (s *Service) Search(ctx context.Context, viewerID string, q Query) ([]event.User, error) {
	found, err := s.store.byPrefix(ctx, viewerID, q)
	if err != nil || len(found) >= q.Limit || utf8.RuneCountInString(q.Text) < minSimilar {
		return found, err
	}
	similar, err := s.store.bySimilarity(ctx, viewerID, q)
	if err != nil {
		return nil, err
	}
	seen := make(map[string]bool, len(found))
	for _, u := range found {
		seen[u.ID] = true
	}
	for _, u := range similar {
		if len(found) < q.Limit && !seen[u.ID] {
			found = append(found, u)
		}
	}
	return found, nil
}

// visible leaves out the viewer ($1), whom a block hides, and deleted accounts.
const visible = `u.id <> $1::uuid AND u.deleted_at IS NULL AND NOT EXISTS (SELECT FROM blocks b
	WHERE (b.user_id = $1::uuid AND b.blocked_id = u.id) OR (b.user_id = u.id AND b.blocked_id = $1::uuid))`

// spare is how many terms more than users are read, because one user may be found by several and some are hidden.
const spare = 4

// The range of the primary key stops early however many begin so. lastRune ends it: no term has it.
const byPrefixSQL = `SELECT u.id, u.username, u.display_name, u.avatar_url
	FROM (
		SELECT user_id, min(rank) AS rank, min(term) AS term FROM (
			(SELECT id AS user_id, 0 AS rank, '' COLLATE "C" AS term FROM users WHERE username = $2)
			UNION ALL
			(SELECT user_id, 1, term FROM user_search_terms WHERE term >= $2 AND term < $3 ORDER BY term, user_id LIMIT $4)
		) t GROUP BY user_id
	) f JOIN users u ON u.id = f.user_id
	WHERE ` + visible + `
	ORDER BY f.rank, f.term, u.username LIMIT $5`

const lastRune = string(utf8.MaxRune)

func (s *store) byPrefix(ctx context.Context, viewerID string, q Query) ([]event.User, error) {
	return s.users(ctx, byPrefixSQL, viewerID, q.Text, q.Text+lastRune, spare*q.Limit, q.Limit)
}

// candidates bounds how many that are similar are compared: a common syllable is similar to a share of all names.
const candidates = 500

const bySimilaritySQL = `SELECT u.id, u.username, u.display_name, u.avatar_url
	FROM (SELECT * FROM users WHERE (username || ' ' || lower(display_name)) %> $2 AND deleted_at IS NULL LIMIT $4) u
	WHERE ` + visible + `
	ORDER BY word_similarity($2, u.username || ' ' || lower(u.display_name)) DESC, u.username LIMIT $3`

func (s *store) bySimilarity(ctx context.Context, viewerID string, q Query) ([]event.User, error) {
	return s.users(ctx, bySimilaritySQL, viewerID, q.Text, q.Limit, candidates)
}

func (s *store) users(ctx context.Context, query string, args ...any) ([]event.User, error) {
	rows, err := s.db.SQL.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("search users: %w", err)
	}
	defer rows.Close()
	out := []event.User{}
	for rows.Next() {
		var u event.User
		if err := rows.Scan(&u.ID, &u.Username, &u.DisplayName, &u.AvatarURL); err != nil {
			return nil, fmt.Errorf("search users: %w", err)
		}
		out = append(out, u)
	}
	return out, rows.Err()
}
