package user_test

import (
	"database/sql"
	"fmt"
	"sync"
	"testing"

	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/testenv"
	"github.com/parley-chat/parley/internal/user"
	"github.com/parley-chat/parley/migrations"
)

func exec(t testing.TB, db *sql.DB, query string, args ...any) {
	t.Helper()
	if _, err := db.Exec(query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

func one[T any](t testing.TB, db *sql.DB, query string, args ...any) (v T) {
	t.Helper()
	if err := db.QueryRow(query, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return v
}

// wordsAreThoseOfNames checks that the words kept for misspelt queries are exactly those that somebody bears.
func wordsAreThoseOfNames(t testing.TB, db *sql.DB) {
	t.Helper()
	const names = `SELECT w FROM users u, user_search_words_of(u.username, u.display_name) w WHERE u.deleted_at IS NULL`
	if n := one[int](t, db, `SELECT count(*) FROM user_search_words WHERE word NOT IN (`+names+`)`); n != 0 {
		t.Errorf("%d words are kept that nobody bears", n)
	}
	if n := one[int](t, db, `SELECT count(*) FROM (`+names+`) n WHERE w NOT IN (SELECT word FROM user_search_words)`); n != 0 {
		t.Errorf("%d words of names are not kept", n)
	}
}

func TestWordsOfNamesAreForgotten(t *testing.T) {
	t.Parallel()
	_, db := service(t)
	kept := func(word string) bool {
		return one[bool](t, db, `SELECT EXISTS (SELECT FROM user_search_words WHERE word = $1)`, word)
	}
	a, b := add(t, db, "bartholomew1", "Bartholomew Ann"), add(t, db, "other", "Bartholomew Anna")
	exec(t, db, `UPDATE users SET display_name = 'Someone' WHERE id = $1`, a)
	if !kept("bartholomew") || kept("ann") || !kept("anna") {
		t.Error("a word that another bears must stay, and one that is only the beginning of another's go")
	}
	exec(t, db, `UPDATE users SET display_name = 'Deleted user', username = 'deleted-x', deleted_at = now() WHERE id = $1`, b)
	if !kept("bartholomew") { // by the username of the first
		t.Error("the beginning of a username must stay")
	}
	exec(t, db, `UPDATE users SET display_name = 'Deleted user', username = 'deleted-y', deleted_at = now() WHERE id = $1`, a)
	if n := one[int](t, db, `SELECT count(*) FROM user_search_words`); n != 0 {
		t.Errorf("%d words are left of users who are all gone", n)
	}
	exec(t, db, `UPDATE users SET username = 'carol', display_name = 'Carol', deleted_at = NULL WHERE id = $1`, a) // as by a key
	if !kept("carol") {
		t.Error("the words of an account that is back")
	}
	wordsAreThoseOfNames(t, db)
}

// Users come to bear a word while its last bearer loses it.
func TestWordsStayWithTheirLastBearer(t *testing.T) {
	t.Parallel()
	_, db := service(t)
	names := []string{"Bartholomew Ann", "Ann Carmichael", "Carmichael Bartholomew", "Nobody Else"}
	var wg sync.WaitGroup
	for i := range 4 {
		u := add(t, db, fmt.Sprint("user", i), "Nobody Else")
		wg.Go(func() {
			for j := range 60 {
				if _, err := db.Exec(`UPDATE users SET display_name = $2 WHERE id = $1`, u, names[(i+j)%len(names)]); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	wordsAreThoseOfNames(t, db)
}

// What an older version left is found, and forgotten, as what this one writes: names of many users, words of names that are no
// more, names of deleted accounts that somebody could take.
func TestMigrationOfWhatIsThere(t *testing.T) {
	t.Parallel()
	url := testenv.EmptyPostgres(t)
	db := testenv.FirstRelease(t, url)
	exec(t, db, `INSERT INTO users (id, username, display_name, password_hash)
		SELECT gen_random_uuid(), 'user_' || n, 'Zoé Jean-Luc ' || n, '!' FROM generate_series(1, 1300) n`)
	zoe, gone := id.New(), id.New()
	exec(t, db, `INSERT INTO users (id, username, display_name, password_hash) VALUES ($1, 'lea', 'Léa Straße', '!'), ($2, 'gone', 'Bartholomew', '!')`, zoe, gone)
	exec(t, db, `UPDATE users SET username = 'deleted_' || right(replace(id::text, '-', ''), 24), display_name = 'Deleted user', deleted_at = now() WHERE id = $1`, gone)
	exec(t, db, `INSERT INTO sessions (id, user_id, user_agent, expires_at, ended_at) VALUES (gen_random_uuid(), $1, 'ended', now(), now()), (gen_random_uuid(), $1, 'open', now(), NULL)`, zoe)
	if err := migrations.Up(t.Context(), url, migrations.Progress{}); err != nil {
		t.Fatal(err)
	}
	if got := one[string](t, db, `SELECT username FROM users WHERE id = $1`, gone); got[:8] != "deleted-" {
		t.Errorf("a deleted account is called %q", got)
	}
	if got := one[string](t, db, `SELECT string_agg(user_agent, ',' ORDER BY user_agent) FROM sessions`); got != ",open" {
		t.Errorf("user agents are %q", got)
	}
	const terms = `SELECT t, u.id FROM users u, user_search_terms_of(u.username, u.display_name) t WHERE u.deleted_at IS NULL`
	for name, query := range map[string]string{
		"too many": `SELECT count(*) FROM (SELECT term, user_id FROM user_search_terms EXCEPT ` + terms + `) x`,
		"missing":  `SELECT count(*) FROM (` + terms + ` EXCEPT SELECT term, user_id FROM user_search_terms) x`,
	} {
		if n := one[int](t, db, query); n != 0 {
			t.Errorf("%d terms are %s", n, name)
		}
	}
	wordsAreThoseOfNames(t, db)
	s := connect(t, url)
	for q, want := range map[string]string{"lea": "lea", "strasse lea": "lea", "bartholomew": "", "bartolomew": "", "luc 1299": "user_1299", "zoe jean luc 7": "user_7"} {
		got, err := s.Search(t.Context(), id.New(), user.Query{Text: q, Limit: 1})
		if err != nil || names(got) != want {
			t.Errorf("%q finds %q, want %q (%v)", q, names(got), want, err)
		}
	}
	if err := migrations.Up(t.Context(), url, migrations.Progress{}); err != nil {
		t.Errorf("again: %v", err)
	}
}
