package directory_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"

	"github.com/parley-chat/parley/internal/directory"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/jsonbody"
	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/testenv"
)

const bulk = 1000

// BenchmarkUpsert makes new users, 1,000 at once, as a server key does.
func BenchmarkUpsert(b *testing.B) {
	db := testenv.Open(b, postgres.Config{URL: testenv.Postgres(b)})
	s := directory.NewService(db, directory.NewWatch(db, 0, slog.New(slog.DiscardHandler), func(string, error) {}), func(context.Context, ...string) {})
	n := 0
	for b.Loop() {
		items := make([]*directory.Item, bulk)
		for i := range items {
			n++
			items[i] = &directory.Item{Draft: directory.Draft{
				ExternalID: fmt.Sprintf("user-%d", n), DisplayName: jsonbody.Optional[string]{Set: true, Value: fmt.Sprintf("Person %d", n)},
			}}
		}
		if err := s.Upsert(b.Context(), items); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N*bulk)/b.Elapsed().Seconds(), "rows/s")
}

// BenchmarkPlainInsert makes as many users by one INSERT … ON CONFLICT: what BenchmarkUpsert is held against.
func BenchmarkPlainInsert(b *testing.B) {
	db := testenv.Open(b, postgres.Config{URL: testenv.Postgres(b)})
	n := 0
	for b.Loop() {
		ids, externals, usernames, names := make([]string, bulk), make([]string, bulk), make([]string, bulk), make([]string, bulk)
		for i := range ids {
			n++
			ids[i], externals[i], usernames[i], names[i] = id.New(), fmt.Sprintf("user-%d", n), fmt.Sprintf("user_%012d", n), fmt.Sprintf("Person %d", n)
		}
		_, err := db.SQL.ExecContext(b.Context(), `INSERT INTO users (id, external_id, username, display_name, password_hash)
			SELECT i.id, i.external_id, i.username, i.name, '' FROM unnest($1::text[]::uuid[], $2::text[], $3::text[], $4::text[]) AS i (id, external_id, username, name)
			ON CONFLICT (external_id) WHERE external_id IS NOT NULL DO UPDATE SET display_name = excluded.display_name`, ids, externals, usernames, names)
		if err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N*bulk)/b.Elapsed().Seconds(), "rows/s")
}
