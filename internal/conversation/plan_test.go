package conversation_test

import (
	"database/sql"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/parley-chat/parley/internal/conversation"
	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/testenv"
)

// crowded makes a database in which one user is in many groups and direct conversations, has a thousand messages unread in each second, and
// is mentioned in them; others are groups without that user. It returns the user.
func crowded(tb testing.TB, db *sql.DB, groups, directs, others int) string {
	tb.Helper()
	users := testenv.Users(tb, db, 3000)
	for i, x := range []struct {
		typ          string
		n, members   int
		first, count int // of the users that are members
	}{{"group", groups, 10, 0, 40}, {"direct", directs, 2, 0, 40}, {"group", others, 2, 1, 2000}} {
		for _, q := range []string{
			`INSERT INTO conversations (id, type, name, member_count, last_seq, revision, created_at, last_message_at)
				SELECT ('0190a1b2-000' || $1 || '-7000-8000-' || lpad(i::text, 12, '0'))::uuid, $2, 'x', $4, 1000, 1001, now(), now() - i * interval '1 minute'
				FROM generate_series(1, $3::int) i`,
			`INSERT INTO conversation_members (conversation_id, user_id, role, joined_at, last_read_seq, muted_until, archived_at)
				SELECT c.id, ($5::text[])[1 + $6 + k * ($7 / $4) + CASE WHEN $6 > 0 THEN n % 900 ELSE 0 END]::uuid, 'member', now(), CASE WHEN n % 2 = 0 THEN 0 ELSE 1000 END,
					CASE WHEN n % 50 = 0 THEN 'infinity'::timestamptz END, CASE WHEN n % 70 = 0 THEN now() END
				FROM (SELECT id, row_number() OVER (ORDER BY id) AS n FROM conversations WHERE id::text LIKE '0190a1b2-000' || $1 || '%' AND type = $2 LIMIT $3) c,
					generate_series(0, $4::int - 1) k`,
			`INSERT INTO message_mentions (conversation_id, seq, user_id, sender_id)
				SELECT c.id, s, CASE WHEN s % 200 = 0 THEN NULL ELSE ($5::text[])[1 + $6]::uuid END, ($5::text[])[3000]::uuid
				FROM (SELECT id FROM conversations WHERE id::text LIKE '0190a1b2-000' || $1 || '%' AND type = $2 LIMIT $3) c, generate_series(100, 1000, 100) s
				WHERE $4::int > 0 AND $7::int > 0`,
		} {
			if _, err := db.Exec(typed(q), fmt.Sprint(i), x.typ, x.n, x.members, users, x.first, x.count); err != nil {
				tb.Fatalf("%v: %s", err, q)
			}
		}
	}
	for _, table := range []string{"users", "conversations", "conversation_members", "message_mentions", "messages"} {
		if _, err := db.Exec(`VACUUM ANALYZE ` + table); err != nil {
			tb.Fatal(err)
		}
	}
	return users[0]
}

// typed has every statement of crowded use all parameters, as Postgres wants it.
func typed(q string) string {
	return `WITH args AS (SELECT $1::text, $2::text, $3::int, $4::int, $5::text[], $6::int, $7::int) ` + q
}

// The totals and each page of the list seek what they need, whatever else there is, and read no message.
func TestListsAndTotalsSeek(t *testing.T) {
	t.Parallel()
	db := testenv.Open(t, postgres.Config{URL: testenv.Postgres(t)})
	user := crowded(t, db.SQL, 50, 100, 6000)
	c, err := db.SQL.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	statements := map[string]string{"unread": conversation.UnreadSQL()}
	for _, f := range conversation.Filters {
		statements["list_"+f] = conversation.PageSQL(conversation.Selection{Filter: f})
	}
	bad := regexp.MustCompile(`Seq Scan on (conversations|conversation_members|message_mentions|users|blocks)|on messages\b`)
	for name, statement := range statements {
		if _, err := c.ExecContext(t.Context(), `PREPARE `+name+` AS `+statement); err != nil {
			t.Fatal(err)
		}
		last := "50"
		if name == "unread" {
			last = "false"
		}
		plan := testenv.KeptPlan(t, c, fmt.Sprintf(`%s ('%s', '{}', '{}', '{}', %s)`, name, user, last))
		if found := bad.FindString(plan); found != "" {
			t.Errorf("%s: %s in\n%s", name, found, plan)
		}
	}
}

var executionTime = regexp.MustCompile(`Execution Time: ([0-9.]+) ms`)

// BenchmarkUnread is the time at the database of what GET /api/unread asks, for somebody in 1,000 groups and 2,000 direct conversations.
func BenchmarkUnread(b *testing.B) {
	db := testenv.Open(b, postgres.Config{URL: testenv.Postgres(b)})
	user := crowded(b, db.SQL, 1000, 2000, 3000)
	var sum float64
	for b.Loop() {
		rows, err := db.SQL.Query(`EXPLAIN (ANALYZE, TIMING OFF) `+conversation.UnreadSQL(), user, []string{}, []int64{}, []int32{}, false)
		if err != nil {
			b.Fatal(err)
		}
		var plan strings.Builder
		for rows.Next() {
			var line string
			if err := rows.Scan(&line); err != nil {
				b.Fatal(err)
			}
			plan.WriteString(line + "\n")
		}
		_ = rows.Close()
		ms, err := strconv.ParseFloat(executionTime.FindStringSubmatch(plan.String())[1], 64)
		if err != nil {
			b.Fatal(err)
		}
		sum += ms
	}
	b.ReportMetric(sum/float64(b.N), "database-ms/op")
}
