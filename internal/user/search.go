package user

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/invalid"
	"github.com/parley-chat/parley/internal/postgres"
)

// Bounds of a search.
const (
	minQuery = 2
	maxQuery = 50
	// minSimilar is how many characters a misspelt word has at least: fewer are similar to everything.
	minSimilar = 4
	// maxSimilar is how many words of a query may be misspelt.
	maxSimilar = 4
)

// Query is a search for users.
type Query struct {
	Text  string
	Limit int
}

// Check normalises the query and notes its faults. The database folds case, as it does for the names.
func (q *Query) Check(f *invalid.Faults) {
	if !utf8.ValidString(q.Text) { // a URL may contain it, but Postgres refuses it
		f.Add("q", "must be UTF-8")
		return
	}
	invalid.Text{Min: minQuery, Max: maxQuery, Trim: true}.Check(f, "q", &q.Text)
}

// Search finds users by prefixes of the username and of the display name from any of its words on; if these are few, by its words
// in another order, and then by similar words. The best come first: exact, prefix, other order, similar. Case, marks, hyphens
// and apostrophes don't matter. It leaves out the viewer and users hidden by a block.
func (s *Service) Search(ctx context.Context, viewerID string, q Query) ([]chat.Profile, error) {
	found, err := s.store.byPrefix(ctx, viewerID, []string{q.Text}, q.Limit)
	if err != nil || len(found) >= q.Limit {
		return found, err
	}
	words := wordsOf(q.Text)
	if len(words) > 1 {
		more, err := s.store.byWords(ctx, viewerID, words, q.Limit)
		if err != nil {
			return nil, err
		}
		if found = appendNew(found, more, q.Limit); len(found) >= q.Limit {
			return found, nil
		}
	}
	phrases, err := s.corrections(ctx, words)
	if err != nil || len(phrases) == 0 {
		return found, err
	}
	similar, err := s.store.byPrefix(ctx, viewerID, phrases, q.Limit)
	if err != nil {
		return nil, err
	}
	return appendNew(found, similar, q.Limit), nil
}

// appendNew appends those of more that are not in found, up to a limit.
func appendNew(found, more []chat.Profile, limit int) []chat.Profile {
	seen := make(map[string]bool, len(found))
	for _, u := range found {
		seen[u.ID] = true
	}
	for _, u := range more {
		if len(found) < limit && !seen[u.ID] {
			found = append(found, u)
		}
	}
	return found
}

// wordsOf splits a query where user_search_plain puts a space: at white space and hyphens.
func wordsOf(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return unicode.IsSpace(r) || unicode.Is(unicode.Pd, r) })
}

// corrections are phrases that the user may have meant, those with few corrections first: each word unchanged, or replaced by
// a similar word of an existing name.
func (s *Service) corrections(ctx context.Context, words []string) ([]string, error) {
	var long []string
	for _, w := range words {
		if utf8.RuneCountInString(w) >= minSimilar && len(long) < maxSimilar {
			long = append(long, w)
		}
	}
	if len(long) == 0 {
		return nil, nil
	}
	similar, err := s.store.similarWords(ctx, long, choices(len(long)))
	if err != nil {
		return nil, err
	}
	phrases := []string{""}
	for _, w := range words {
		options := append([]string{w}, similar[w]...)
		next := make([]string, 0, len(phrases)*len(options))
		for _, p := range phrases {
			for _, o := range options {
				next = append(next, strings.TrimSpace(p+" "+o))
			}
		}
		phrases = next
		delete(similar, w) // a word that comes twice is corrected once
	}
	return phrases[1:], nil // the first is the text itself
}

// choices is how many corrections each of n words has, so that there are few phrases in all.
func choices(n int) int {
	switch n {
	case 1:
		return 12
	case 2:
		return 4
	case 3:
		return 2
	}
	return 1
}

// unhidden leaves out the viewer ($1), users hidden by a block, and deactivated users.
const unhidden = `u.id <> $1::uuid AND NOT EXISTS (SELECT FROM users d WHERE d.id = u.id AND d.deactivated_at IS NOT NULL) AND NOT EXISTS (SELECT FROM blocks b
	WHERE (b.user_id = $1::uuid AND b.blocked_id = u.id) OR (b.user_id = u.id AND b.blocked_id = $1::uuid))`

// For each phrase it reads the users with exactly that name, and a range of the terms' primary key, which stops early however many
// begin so. A user counts with the first of their terms in the range. Nothing sorts behind U+10FFFF, which no name has.
const byPrefixSQL = `SELECT u.id, u.username, u.display_name, u.avatar_url
	FROM (
		SELECT DISTINCT ON (found.id) found.id, p.n, found.term
		FROM (SELECT user_search_fold(v.phrase) AS first, user_search_fold(v.phrase) || chr(1114111) AS last, v.n
			FROM unnest($2::text[]) WITH ORDINALITY v (phrase, n) OFFSET 0) p,
		LATERAL (
			(SELECT u.id, '' AS term FROM users u WHERE u.username = p.first AND u.deleted_at IS NULL AND ` + unhidden + `)
			UNION ALL
			(SELECT u.id, u.term FROM user_search_terms u (term, id) WHERE u.term >= p.first AND u.term < p.last AND ` + unhidden + `
				AND NOT EXISTS (SELECT FROM user_search_terms e WHERE e.user_id = u.id AND e.term >= p.first AND e.term < u.term)
			ORDER BY u.term, u.id LIMIT $3)
		) found
		ORDER BY found.id, p.n, found.term
	) f JOIN users u ON u.id = f.id
	ORDER BY f.n, f.term, u.username LIMIT $3`

func (s *store) byPrefix(ctx context.Context, viewerID string, phrases []string, limit int) ([]chat.Profile, error) {
	found, err := postgres.Collect(ctx, s.db.SQL, chat.ScanProfile, byPrefixSQL, viewerID, phrases, limit)
	if err != nil {
		return nil, fmt.Errorf("search users: %w", err)
	}
	return found, nil
}

// maxCandidates bounds the users that match the longest word of a query and are checked for the other words.
const maxCandidates = 2000

// Users by the longest word ($2), each of whose other words ($3) begins a term of theirs too.
const byWordsSQL = `SELECT u.id, u.username, u.display_name, u.avatar_url
	FROM (
		SELECT DISTINCT d.user_id
		FROM (SELECT user_search_fold($2) AS first, user_search_fold($2) || chr(1114111) AS last OFFSET 0) p,
		LATERAL (SELECT t.user_id FROM user_search_terms t WHERE t.term >= p.first AND t.term < p.last ORDER BY t.term, t.user_id LIMIT $5) d
	) c,
	LATERAL (SELECT u.* FROM users u WHERE u.id = c.user_id AND u.deleted_at IS NULL OFFSET 0) u
	WHERE ` + unhidden + ` AND NOT EXISTS (
		SELECT FROM (SELECT user_search_fold(v.word) AS first, user_search_fold(v.word) || chr(1114111) AS last FROM unnest($3::text[]) v (word) OFFSET 0) o
		WHERE NOT EXISTS (SELECT FROM user_search_terms e WHERE e.user_id = u.id AND e.term >= o.first AND e.term < o.last))
	ORDER BY u.username LIMIT $4`

// byWords finds users by words in any order, each of which may be only the beginning of one of theirs.
func (s *store) byWords(ctx context.Context, viewerID string, words []string, limit int) ([]chat.Profile, error) {
	longest := slices.MaxFunc(words, func(a, b string) int { return cmp.Compare(utf8.RuneCountInString(a), utf8.RuneCountInString(b)) })
	found, err := postgres.Collect(ctx, s.db.SQL, chat.ScanProfile, byWordsSQL, viewerID, longest, words, limit, maxCandidates)
	if err != nil {
		return nil, fmt.Errorf("search users by words: %w", err)
	}
	return found, nil
}

const nearWordsSQL = `SELECT q.word, s.word
	FROM (SELECT v.word, user_search_fold(v.word) AS fold, user_search_near(user_search_fold(v.word)) AS near
		FROM unnest($1::text[]) v (word) OFFSET 0) q,
	LATERAL (SELECT w.word FROM user_search_words w WHERE w.near && q.near AND w.word <> q.fold
		ORDER BY similarity(w.word, q.fold) DESC, w.word LIMIT $2) s`

// A higher threshold for longer words, which have more in common when misspelt, reads less of the index, for whose sake it
// is set word by word, for this statement.
const similarWordsSQL = `SELECT q.word, s.word
	FROM (SELECT v.word, user_search_fold(v.word) AS fold, set_config('pg_trgm.similarity_threshold',
			CASE WHEN length(v.word) < 8 THEN '0.3' WHEN length(v.word) < 10 THEN '0.38' ELSE '0.45' END, true) AS threshold
		FROM unnest($1::text[]) v (word) OFFSET 0) q,
	LATERAL (SELECT w.word FROM user_search_words w WHERE q.threshold <> '' AND w.word % q.fold AND w.word <> q.fold
		ORDER BY similarity(w.word, q.fold) DESC, w.word LIMIT $2) s`

// similarWords are, for each of the words, those most like it among all that are in names: those a letter off, and where
// no word has any, those that share enough trigrams.
func (s *store) similarWords(ctx context.Context, words []string, limit int) (map[string][]string, error) {
	found, err := s.wordsBy(ctx, nearWordsSQL, words, limit)
	if err != nil || len(found) > 0 {
		return found, err
	}
	return s.wordsBy(ctx, similarWordsSQL, words, limit)
}

func (s *store) wordsBy(ctx context.Context, query string, words []string, limit int) (map[string][]string, error) {
	out := map[string][]string{}
	err := postgres.Each(ctx, s.db.SQL, func(r postgres.Row) error {
		var word, similar string
		err := r.Scan(&word, &similar)
		out[word] = append(out[word], similar)
		return err
	}, query, words, limit)
	if err != nil {
		return nil, fmt.Errorf("find similar words: %w", err)
	}
	return out, nil
}
