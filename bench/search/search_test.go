// Package search measures the search for users among a million, or PARLEY_BENCH_USERS.
package search

import (
	"database/sql"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/parley-chat/parley/bench/meter"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/testenv"
	"github.com/parley-chat/parley/internal/user"
)

// fill makes users with usernames of their own and display names of 2,000 given and 30,000 family names, all made of
// 30 syllables, so that prefixes and misspellings meet many that are like them: some 300,000 words.
func fill(b *testing.B, db *sql.DB) {
	b.Helper()
	users := meter.Size(b, "USERS", 1_000_000)
	for _, q := range []string{
		`ALTER TABLE users DISABLE TRIGGER users_search_changed`,
		`CREATE FUNCTION pg_temp.name(n int, k int) RETURNS text LANGUAGE sql AS $$
			SELECT string_agg((ARRAY['an','be','chi','do','el','fa','gre','ha','is','jo','ka','li','ma','ni','or','pe','ro','sa','ti','ul','vi','wal','xa','yo','zu','mer','son','ton','berg','ner'])
				[1 + (abs(hashint4(n * 31 + i))) % 30], '') FROM generate_series(1, k) i $$`,
		`INSERT INTO users (id, username, display_name, password_hash)
			SELECT gen_random_uuid(), pg_temp.name(n, 3 + n % 3 / 2) || '_' || n, initcap(pg_temp.name(n % 2000, 2)) || ' ' || initcap(pg_temp.name(n % 30000 + 5000, 3)), '!'
			FROM generate_series(1, ` + strconv.Itoa(users) + `) n`,
		`INSERT INTO user_search_terms SELECT t, u.id FROM users u, user_search_terms_of(u.username, u.display_name) t ORDER BY 1`,
		`INSERT INTO user_search_words SELECT w, user_search_near(w) FROM (SELECT DISTINCT w FROM users u, user_search_words_of(u.username, u.display_name) w) t`,
		`VACUUM ANALYZE users`, `VACUUM ANALYZE user_search_terms`, `VACUUM ANALYZE user_search_words`,
	} {
		if _, err := db.Exec(q); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSearch(b *testing.B) {
	db, err := postgres.Open(postgres.Config{URL: testenv.Postgres(b), MaxConns: 1, Application: "bench"})
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	db.SQL.SetMaxOpenConns(1) // pg_temp is a connection's own
	if _, err := db.SQL.Exec(`SET statement_timeout = 0`); err != nil {
		b.Fatal(err)
	}
	fill(b, db.SQL)
	s, me := user.NewService(db, nil, nil), id.New()
	var given, family string
	if err := db.SQL.QueryRow(`SELECT split_part(lower(display_name), ' ', 1), split_part(lower(display_name), ' ', 2) FROM users LIMIT 1`).Scan(&given, &family); err != nil {
		b.Fatal(err)
	}
	for name, q := range map[string]string{
		"TwoLetters": "an", "Prefix": given[:4], "Family": family, "Full": given + " " + family[:3],
		"Misspelt": family[:3] + family[4:], "Swapped": family[:4] + family[5:6] + family[4:5] + family[6:], "Nothing": "qqqqwwww",
	} {
		b.Run(name, func(b *testing.B) {
			var took []time.Duration
			found := 0
			for b.Loop() {
				start := time.Now()
				list, err := s.Search(b.Context(), me, user.Query{Text: q, Limit: 20})
				if err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(start))
				found = len(list)
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
			b.ReportMetric(float64(found), "found")
		})
	}
}
