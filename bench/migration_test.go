package bench

import (
	"context"
	"crypto/md5" //nolint:gosec // for ids
	"database/sql"
	"encoding/hex"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parley-chat/parley/bench/meter"
	"github.com/parley-chat/parley/internal/testenv"
	"github.com/parley-chat/parley/migrations"
)

// BenchmarkMigrations brings a database of the first release, with PARLEY_BENCH_ROWS (20,000) messages, to the newest schema by
// api migrate, while a writer sends and a reader reads pages as the first release does. It reports, by migration, its duration, the
// longest waits of writer and reader, and the strongest locks on tables that were there before (pg_locks, sampled). No statement may
// fail or wait for as long as lock_timeout.
func BenchmarkMigrations(b *testing.B) {
	n := int64(meter.Size(b, "ROWS", 20_000)) / conversationsOf * conversationsOf
	s := firstReleaseOf(b, n)
	api := apiBinary(b)
	w := watchMigrations(b, s)
	begun := time.Now()
	cmd := exec.Command(api, "migrate")
	cmd.Env = []string{"PARLEY_DATABASE_URL=" + s.pg.URL(), "PARLEY_LOG_FORMAT=text"}
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("migrate: %v: %s", err, out)
	}
	took := time.Since(begun)
	w.finish()
	s.oneTable(b, n)
	s.report(b, `SELECT count(*) FROM pg_index WHERE NOT indisvalid AND $1::bigint > 0`, n, "invalid-indexes")
	writes, reads := worst(w.writes, w.begun, time.Now()), worst(w.reads, w.begun, time.Now())
	b.ReportMetric(took.Seconds(), "s/all-migrations")
	b.ReportMetric(writes.Seconds()*1e3, "longest-write-ms")
	b.ReportMetric(reads.Seconds()*1e3, "longest-read-ms")
	b.ReportMetric(0, "ns/op")
	b.Logf("%d messages, %d writes and %d reads beside the migrations\n%s", n, len(w.writes), len(w.reads), w.table())
	if writes >= migrations.LockTimeout || reads >= migrations.LockTimeout {
		b.Errorf("a write waited %s, a read %s: no migration may hold a lock for as long as lock_timeout", writes, reads)
	}
}

// firstReleaseOf fills a database of the first release: n messages in conversations of 200 with three members each, a change for each
// 50 messages, a receipt for each 5, a user and an ended session for each 100.
func firstReleaseOf(b *testing.B, n int64) *system {
	b.Helper()
	pg := testenv.PostgresServer(b, "-c", "fsync=on", "-c", "shared_buffers=1GB", "-c", "max_wal_size=4GB", "-c", "maintenance_work_mem=512MB")
	db := testenv.FirstRelease(b, pg.URL())
	s := &system{pg: pg, db: db}
	db.SetMaxOpenConns(1)
	// Without foreign keys' triggers, and with indexes made afterwards: the same table in a tenth of the time.
	s.exec(b, `SET session_replication_role = replica; SET synchronous_commit = off`)
	indexes := s.dropIndexes(b, "messages", "read_receipts")
	conversations, users := n/conversationsOf, max(n/100, 1000)
	s.exec(b, `INSERT INTO users (id, username, display_name, password_hash)
		SELECT md5('u' || n)::uuid, 'user' || n, 'Somebody Number' || n % 500, '!' FROM generate_series(0, $1::bigint) n`, users)
	s.exec(b, `INSERT INTO user_search_terms (term, user_id) SELECT t, u.id FROM users u, user_search_terms_of(u.username, u.display_name) t`)
	s.exec(b, `INSERT INTO user_search_words (word, near) SELECT w, user_search_near(w) FROM
		(SELECT DISTINCT w FROM users u, user_search_words_of(u.username, u.display_name) w) x`)
	s.exec(b, `INSERT INTO sessions (id, user_id, user_agent, expires_at, ended_at)
		SELECT md5('s' || n)::uuid, md5('u' || n)::uuid, 'a client of some length, with its version', now(), now() FROM generate_series(0, $1::bigint) n`, users)
	s.exec(b, `INSERT INTO conversations (id, type, name, last_message_at, last_seq, revision, member_count, created_at)
		SELECT md5('c' || n)::uuid, 'group', 'a group', '2025-12-27', 201, 206, 3, '2025-01-01' FROM generate_series(0, $1::bigint - 1) n`, conversations)
	s.exec(b, `INSERT INTO conversation_members (conversation_id, user_id, role, joined_at)
		SELECT md5('c' || n)::uuid, md5('u' || (n * 3 + m) % $2::bigint)::uuid, CASE m WHEN 0 THEN 'owner' ELSE 'member' END, '2025-01-01'
		FROM generate_series(0, $1::bigint - 1) n, generate_series(0, 2) m`, conversations, users)
	s.exec(b, `INSERT INTO conversation_changes (conversation_id, revision, last_seq, kind, user_ids, created_at)
		SELECT md5('c' || n)::uuid, r * 50 + 1, r * 50, CASE r WHEN 0 THEN 'created' ELSE 'updated' END, NULL, '2025-01-01'
		FROM generate_series(0, $1::bigint - 1) n, generate_series(0, 3) r`, conversations)
	const chunk = 500_000
	for from := int64(1); from <= n; from += chunk {
		s.exec(b, `INSERT INTO messages (id, conversation_id, seq, revision, sender_id, content, content_hash, client_message_id, created_at) `+
			fmt.Sprintf(rowsSQL, text), from, min(n, from+chunk-1), n)
	}
	s.exec(b, `INSERT INTO read_receipts (message_id, user_id, read_at) SELECT id, md5('u1')::uuid, created_at FROM messages WHERE seq % 5 = 0`)
	for _, x := range indexes {
		s.exec(b, x)
	}
	s.exec(b, `RESET session_replication_role`)
	s.exec(b, `VACUUM (FREEZE, ANALYZE)`)
	db.SetMaxOpenConns(8)
	return s
}

// dropIndexes drops the tables' indexes, except those that foreign keys need, and returns the statements that make them again.
func (s *system) dropIndexes(b *testing.B, tables ...string) (create []string) {
	b.Helper()
	rows, err := s.db.Query(`SELECT coalesce('ALTER TABLE ' || i.tablename || ' DROP CONSTRAINT ' || c.conname, 'DROP INDEX ' || i.indexname),
			coalesce('ALTER TABLE ' || i.tablename || ' ADD CONSTRAINT ' || c.conname || ' ' || pg_get_constraintdef(c.oid), i.indexdef)
		FROM pg_indexes i LEFT JOIN pg_constraint c ON c.conname = i.indexname AND c.conrelid = i.tablename::regclass
		WHERE i.schemaname = 'public' AND i.tablename = ANY ($1) AND i.indexname <> 'messages_pkey'`, tables)
	if err != nil {
		b.Fatal(err)
	}
	var drop []string
	for rows.Next() {
		var d, c string
		if err := rows.Scan(&d, &c); err != nil {
			b.Fatal(err)
		}
		drop, create = append(drop, d), append(create, c)
	}
	if err := rows.Err(); err != nil {
		b.Fatal(err)
	}
	for _, d := range drop {
		s.exec(b, d)
	}
	return create
}

// span is a statement of the load.
type span struct{ from, to time.Time }

func (x span) length() time.Duration { return x.to.Sub(x.from) }

// migrationWatch is what was seen of a run of migrations.
type migrationWatch struct {
	b    *testing.B
	s    *system
	stop context.CancelFunc
	done sync.WaitGroup

	mu            sync.Mutex // guards the following fields
	begun         time.Time
	applied       map[int64]time.Time // when a version was first seen as applied
	writes, reads []span
	locks         map[string]bool // by version, mode and table
}

// watchMigrations starts the load and the samplers.
func watchMigrations(b *testing.B, s *system) *migrationWatch {
	ctx, cancel := context.WithCancel(b.Context())
	w := &migrationWatch{b: b, s: s, stop: cancel, begun: time.Now(), applied: map[int64]time.Time{}, locks: map[string]bool{}}
	writer, reader, sampler := w.conn(), w.conn(), w.conn() // before the migrations begin
	w.done.Go(func() {
		n := time.Now().UnixMicro() // a client's ids of its own
		w.load(ctx, writer, &w.writes, func(c *sql.Conn) error { n++; return sendAsFirstRelease(ctx, c, n) })
	})
	w.done.Go(func() {
		var n int64
		w.load(ctx, reader, &w.reads, func(c *sql.Conn) error {
			n++
			_, err := c.ExecContext(ctx, `SELECT id, conversation_id, seq, revision, sender_id, content, created_at, edited_at, deleted_at FROM messages
				WHERE conversation_id = $1 ORDER BY created_at DESC, id DESC LIMIT 50`, conversationOf(n))
			return err
		})
	})
	w.done.Go(func() { w.sample(ctx, sampler) })
	return w
}

func (w *migrationWatch) conn() *sql.Conn {
	c, err := w.s.db.Conn(context.Background())
	if err != nil {
		w.b.Fatal(err)
	}
	return c
}

func (w *migrationWatch) finish() {
	w.stop()
	w.done.Wait()
}

// load runs statements on a connection until ctx ends. None may fail.
func (w *migrationWatch) load(ctx context.Context, c *sql.Conn, to *[]span, statement func(*sql.Conn) error) {
	defer c.Close()
	for ctx.Err() == nil {
		x := span{from: time.Now()}
		err := statement(c)
		x.to = time.Now()
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			w.b.Errorf("beside the migrations: %v", err)
			return
		}
		w.mu.Lock()
		*to = append(*to, x)
		w.mu.Unlock()
		time.Sleep(time.Millisecond)
	}
}

// conversationOf is the id of the conversation that the load uses in its nth turn.
func conversationOf(n int64) string {
	sum := md5.Sum(fmt.Append(nil, "c", n%100)) //nolint:gosec // as Postgres's md5() makes it
	return hex.EncodeToString(sum[:])
}

// sendAsFirstRelease stores a message in a transaction, by the columns that the first release knows.
func sendAsFirstRelease(ctx context.Context, c *sql.Conn, n int64) error {
	_, err := c.ExecContext(ctx, `WITH c AS (
			UPDATE conversations SET last_seq = last_seq + 1, revision = revision + 1, last_message_at = clock_timestamp(),
				changed_at = date_trunc('second', clock_timestamp()) WHERE id = $1 RETURNING id, last_seq, revision, last_message_at
		), m AS (
			INSERT INTO messages (id, conversation_id, seq, revision, sender_id, content, content_hash, client_message_id, created_at)
			SELECT gen_random_uuid(), id, last_seq, revision, (SELECT user_id FROM conversation_members WHERE conversation_id = $1 LIMIT 1),
				'sent while the schema changes', sha256('x'), 'load-' || $2::bigint, last_message_at FROM c RETURNING conversation_id, seq, sender_id
		) UPDATE conversation_members x SET last_read_seq = m.seq FROM m WHERE x.conversation_id = m.conversation_id AND x.user_id = m.sender_id`, conversationOf(n), n)
	return err
}

// sample notes every few milliseconds how far the migrations are and what they lock of the tables that were there before.
func (w *migrationWatch) sample(ctx context.Context, c *sql.Conn) {
	defer c.Close()
	last := false
	for !last {
		last = ctx.Err() != nil // what the last migration did is sampled too
		if err := w.sampleOnce(c); err != nil {
			w.b.Error(err)
			return
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// strong are the modes that keep statements out: of writers, and AccessExclusiveLock of readers as well.
const strong = `'ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock'`

func (w *migrationWatch) sampleOnce(c *sql.Conn) error {
	ctx := context.Background()
	var version int64
	if err := c.QueryRowContext(ctx, `SELECT max(version_id) FROM goose_db_version`).Scan(&version); err != nil {
		return err
	}
	rows, err := c.QueryContext(ctx, `SELECT l.mode || ' on ' || c.relname FROM pg_locks l JOIN pg_stat_activity a USING (pid) JOIN pg_class c ON c.oid = l.relation
		WHERE a.application_name = 'parley-migrate' AND l.granted AND l.mode IN (`+strong+`) AND c.relkind = 'r'
			AND c.relname IN ('messages', 'conversations', 'conversation_members', 'conversation_changes', 'read_receipts', 'users', 'sessions', 'friendships')`)
	if err != nil {
		return err
	}
	defer rows.Close()
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, known := w.applied[version]; !known {
		w.applied[version] = now
	}
	for rows.Next() {
		var lock string
		if err := rows.Scan(&lock); err != nil {
			return err
		}
		w.locks[fmt.Sprintf("%05d %s", version+1, lock)] = true
	}
	return rows.Err()
}

// worst is the longest of the spans that end after from.
func worst(of []span, from, to time.Time) (d time.Duration) {
	for _, x := range of {
		if x.to.After(from) && x.from.Before(to) {
			d = max(d, x.length())
		}
	}
	return d
}

// table is what was seen, a line for each migration.
func (w *migrationWatch) table() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := []string{"| migration | s | longest write, ms | longest read, ms | strong locks that were seen |", "| --- | --- | --- | --- | --- |"}
	from := w.begun
	for v := int64(testenv.FirstReleaseVersion + 1); v <= migrations.Newest(); v++ {
		to, seen := w.applied[v]
		if !seen {
			continue // it took less than a sample, and counts with the next
		}
		var locks []string
		for key := range w.locks {
			if lock, of := strings.CutPrefix(key, fmt.Sprintf("%05d ", v)); of {
				locks = append(locks, lock)
			}
		}
		slices.Sort(locks)
		out = append(out, fmt.Sprintf("| %d | %.2f | %d | %d | %s |", v, to.Sub(from).Seconds(), worst(w.writes, from, to).Milliseconds(),
			worst(w.reads, from, to).Milliseconds(), strings.Join(locks, ", ")))
		from = to
	}
	return strings.Join(out, "\n")
}

// oneTable reports what docs/adr/0013-one-table-of-messages.md claims of one table, on this one: bytes a message by index, the pages of
// memory that each query reads, and what vacuum and freeze take beside the load, once 2 % of the messages were updated.
func (s *system) oneTable(b *testing.B, n int64) {
	s.report(b, `SELECT pg_table_size('messages') / $1::float8`, n, "table-B/message")
	rows, err := s.db.Query(`SELECT indexrelname, pg_relation_size(indexrelid) / $1::float8 FROM pg_stat_user_indexes WHERE relname = 'messages'`, n)
	if err != nil {
		b.Fatal(err)
	}
	for rows.Next() {
		var name string
		var size float64
		if err := rows.Scan(&name, &size); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(size, name+"-B/message")
	}
	if err := rows.Err(); err != nil {
		b.Fatal(err)
	}
	for _, q := range historyQueries {
		b.ReportMetric(s.pagesRead(b, fmt.Sprintf(q.sql, "messages")), q.unit)
	}
	s.exec(b, `UPDATE messages SET edited_at = now() WHERE seq % 50 = 0`)
	for _, v := range []struct{ name, sql string }{{"vacuum", `VACUUM messages`}, {"freeze", `VACUUM (FREEZE) messages`}} {
		w := watchMigrations(b, s)
		cpu := meter.CPU(s.pg.PID())
		begun := time.Now()
		s.exec(b, v.sql)
		took := time.Since(begun)
		w.finish()
		b.ReportMetric(took.Seconds(), v.name+"-s")
		b.ReportMetric((meter.CPU(s.pg.PID())-cpu)/float64(n)*1e6, v.name+"-CPU-s/M")
		b.ReportMetric(worst(w.writes, begun, time.Now()).Seconds()*1e3, v.name+"-longest-write-ms")
		b.ReportMetric(worst(w.reads, begun, time.Now()).Seconds()*1e3, v.name+"-longest-read-ms")
	}
}
