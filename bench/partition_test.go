package bench

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/bench/meter"
	"github.com/parley-chat/parley/internal/testenv"
)

// layout is a way to store messages, with the indexes that it needs: docs/adr/0013-one-table-of-messages.md.
type layout struct {
	name, by string
	parts    func(table string) []string
	indexes  []string
}

// layouts are one table, and the two ways to partition it. By time, nothing makes a client's id unique over the partitions.
func layouts() []layout {
	const client = "UNIQUE INDEX ON %s (conversation_id, sender_id, client_message_id) WHERE client_message_id IS NOT NULL"
	const history = "INDEX ON %s (conversation_id, created_at DESC, id DESC)"
	return []layout{
		{"one", "", nil, []string{"UNIQUE INDEX ON %s (id)", "UNIQUE INDEX ON %s (conversation_id, seq)", client, history}},
		{
			"hash=16", "PARTITION BY HASH (conversation_id)", func(table string) (out []string) {
				for i := range 16 {
					out = append(out, fmt.Sprintf("CREATE TABLE %s_%d PARTITION OF %[1]s FOR VALUES WITH (MODULUS 16, REMAINDER %[2]d)", table, i))
				}
				return out
			},
			[]string{"INDEX ON %s (id)", "UNIQUE INDEX ON %s (conversation_id, seq)", client, history},
		},
		{
			"month=14", "PARTITION BY RANGE (created_at)", func(table string) (out []string) {
				for i := range 14 {
					out = append(out, fmt.Sprintf("CREATE TABLE %s_%d PARTITION OF %[1]s FOR VALUES FROM ('%[3]s') TO ('%[4]s')", table, i, month(i+1), month(i+2)))
				}
				return out
			},
			[]string{"INDEX ON %s (id)", "INDEX ON %s (conversation_id, seq)", strings.Replace(client, "UNIQUE ", "", 1), history},
		},
	}
}

func month(m int) string {
	return time.Date(2025, time.Month(m), 1, 0, 0, 0, 0, time.UTC).Format(time.DateOnly)
}

// conversationsOf is how many messages a conversation has on average in BenchmarkPartitions.
const conversationsOf = 200

// rowsSQL makes the messages from $1 to $2 of $3 in all, in the order of time, of conversations that take turns.
const rowsSQL = `SELECT (lpad(to_hex(1735689600000 + n), 12, '0') || '7' || substr(md5(n::text), 1, 3) || '8' || substr(md5(n::text), 4, 15))::uuid,
	md5('c' || n * 7919 %% ($3::bigint / 200))::uuid, n / ($3::bigint / 200) + 1, n / ($3::bigint / 200) + 2, md5('u' || n * 31 %% 1000)::uuid, '%s',
	decode(md5(n::text) || md5(n::text), 'hex'), 'c-' || n, '2025-01-01'::timestamptz + n * (interval '360 days' / $3::bigint)
	FROM generate_series($1::bigint, $2::bigint) n`

// BenchmarkPartitions stores messages in one table and in partitions, and reports what each costs: bytes, CPU and log of an insert, pages of
// memory that a query reads, CPU of vacuum. PARLEY_BENCH_PARTITION_ROWS (20,000) is how many there are before.
func BenchmarkPartitions(b *testing.B) {
	n := int64(meter.Size(b, "PARTITION_ROWS", 20_000)) / conversationsOf * conversationsOf
	pg := testenv.PostgresServer(b, "-c", "fsync=off", "-c", "shared_buffers=1GB", "-c", "max_wal_size=512MB", "-c", "autovacuum=off")
	db, err := sql.Open("pgx", pg.URL())
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	s := &system{pg: pg, db: db}
	for i, l := range layouts() {
		b.Run(l.name, func(b *testing.B) { s.partitions(b, fmt.Sprint("m", i), l, n) })
	}
}

func (s *system) partitions(b *testing.B, table string, l layout, n int64) {
	s.exec(b, `DROP TABLE IF EXISTS `+table)
	s.exec(b, fmt.Sprintf(`CREATE TABLE %s (id uuid NOT NULL, conversation_id uuid NOT NULL, seq bigint NOT NULL, revision bigint NOT NULL, sender_id uuid NOT NULL,
		content text NOT NULL, content_hash bytea, client_message_id text, created_at timestamptz NOT NULL, edited_at timestamptz) %s`, table, l.by))
	if l.parts != nil {
		for _, q := range l.parts(table) {
			s.exec(b, q)
		}
	}
	for _, x := range l.indexes {
		s.exec(b, "CREATE "+fmt.Sprintf(x, table))
	}
	insert := `INSERT INTO ` + table + ` ` + fmt.Sprintf(rowsSQL, text)
	const chunk = 100_000
	for from := int64(1); from <= n; from += chunk {
		s.exec(b, insert, from, min(n, from+chunk-1), n)
	}
	cpu := meter.CPU(s.pg.PID())
	s.exec(b, `VACUUM (FREEZE, ANALYZE) `+table)
	b.ReportMetric((meter.CPU(s.pg.PID())-cpu)/float64(n)*1e6, "freeze-CPU-s/M")
	s.report(b, `SELECT sum(pg_table_size(i))/$1::float8 FROM (SELECT relid AS i FROM pg_partition_tree('`+table+`') UNION SELECT '`+table+`'::regclass) x`, n, "table-B/message")
	s.report(b, `SELECT sum(pg_indexes_size(i))/$1::float8 FROM (SELECT relid AS i FROM pg_partition_tree('`+table+`') UNION SELECT '`+table+`'::regclass) x`, n, "indexes-B/message")

	const each = 64
	batches := min(1000, n/each/40) // of the same year
	if _, err := s.db.Exec(`PREPARE ins (bigint, bigint, bigint) AS ` + insert); err != nil {
		b.Fatal(err)
	}
	log := s.wal(b)
	cpu = meter.CPU(s.pg.PID())
	for i := int64(0); i < batches; i++ {
		s.exec(b, fmt.Sprintf(`EXECUTE ins (%d, %d, %d)`, n+i*each+1, n+(i+1)*each, n))
	}
	b.ReportMetric((meter.CPU(s.pg.PID())-cpu)/float64(batches*each)*1e5, "insert-CPU-s/100k")
	b.ReportMetric((s.wal(b)-log)/float64(batches*each), "insert-WAL-B/message")
	s.exec(b, `DEALLOCATE ins`)

	for _, q := range historyQueries {
		b.ReportMetric(s.pagesRead(b, fmt.Sprintf(q.sql, table)), q.unit)
	}
	s.exec(b, `UPDATE `+table+` SET edited_at = now() WHERE seq % 50 = 0`)
	cpu = meter.CPU(s.pg.PID())
	s.exec(b, `VACUUM `+table)
	b.ReportMetric((meter.CPU(s.pg.PID())-cpu)/float64(n)*1e6, "vacuum-CPU-s/M")
	b.ReportMetric(0, "ns/op")
	s.exec(b, `DROP TABLE `+table)
}

func (s *system) report(b *testing.B, query string, n int64, unit string) {
	b.Helper()
	var v float64
	if err := s.db.QueryRow(query, n).Scan(&v); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(v, unit)
}

// pagesRead is how many of Postgres's pages a query reads, from memory or not.
func (s *system) pagesRead(b *testing.B, query string) float64 {
	b.Helper()
	var out string
	if err := s.db.QueryRow(`EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) ` + query).Scan(&out); err != nil {
		b.Fatalf("%s: %v", query, err)
	}
	var plans []struct {
		Plan struct {
			Hit  float64 `json:"Shared Hit Blocks"`
			Read float64 `json:"Shared Read Blocks"`
		}
	}
	if err := json.Unmarshal([]byte(out), &plans); err != nil {
		b.Fatal(err)
	}
	return plans[0].Plan.Hit + plans[0].Plan.Read
}

// historyQueries are what the api asks of messages, in a table that the statement names.
var historyQueries = []struct{ unit, sql string }{
	{"pages-newest", `SELECT * FROM %s WHERE conversation_id = md5('c7')::uuid ORDER BY created_at DESC, id DESC LIMIT 50`},
	{"pages-deep", `SELECT * FROM %s WHERE conversation_id = md5('c7')::uuid AND (created_at, id) < ('2025-03-01'::timestamptz, md5('')::uuid) ORDER BY created_at DESC, id DESC LIMIT 50`},
	{"pages-sync", `SELECT * FROM %s WHERE conversation_id = md5('c7')::uuid AND seq > 100 ORDER BY seq LIMIT 50`},
	{"pages-client-id", `SELECT * FROM %s WHERE conversation_id = md5('c7')::uuid AND sender_id = md5('u7')::uuid AND client_message_id = 'c-7'`},
	{"pages-id", `SELECT * FROM %s WHERE id = (SELECT '01900000-0000-7000-8000-000000000000'::uuid)`},
}
