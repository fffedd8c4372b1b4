// Package receipt measures what read receipts of groups cost, in and out.
//
//	go test -run '^$' -bench . ./bench/receipt/
//
// PARLEY_BENCH_READS is how many reads there are (100000), PARLEY_BENCH_KEYS among how many other keys dirty messages are
// found (1000000), PARLEY_BENCH_CLIENTS how many reads are under way at once (1000).
package receipt

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/parley-chat/parley/bench/meter"
	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/receipt"
	"github.com/parley-chat/parley/internal/rediskey"
	"github.com/parley-chat/parley/internal/testenv"
)

const (
	// messages is how many are read by everybody.
	messages = 100
	// pieceRows is how many rows the plain insert writes in a statement, as the flusher does.
	pieceRows = 5000
)

type env struct {
	b      *testing.B
	server *testenv.PGServer
	redis  *testenv.RedisServer
	db     *postgres.DB
	rdb    *redis.Client
}

func start(b *testing.B) *env {
	b.Helper()
	e := &env{
		b:     b,
		redis: testenv.Redis(b, "--appendonly", "yes"),
		server: testenv.PostgresServer(b, "-c", "fsync=on", "-c", "shared_buffers=512MB", "-c", "max_wal_size=8GB",
			"-c", "shared_preload_libraries=pg_stat_statements"),
	}
	db := testenv.Open(b, postgres.Config{URL: e.server.URL(), MaxConns: 20, Application: "bench"})
	e.db, e.rdb = db, e.redis.Client(b)
	e.exec(`CREATE EXTENSION pg_stat_statements`)
	return e
}

func (e *env) exec(query string, args ...any) {
	e.b.Helper()
	if _, err := e.db.SQL.Exec(query, args...); err != nil {
		e.b.Fatal(err)
	}
}

func (e *env) count(query string) (n int) {
	e.b.Helper()
	if err := e.db.SQL.QueryRow(query).Scan(&n); err != nil {
		e.b.Fatal(err)
	}
	return n
}

// group makes a group with messages of its first member.
func (e *env) group(members, messages int) (users, sent []string) {
	e.b.Helper()
	c := id.New()
	for range members {
		users = append(users, id.New())
	}
	for range messages {
		sent = append(sent, id.New())
	}
	e.exec(`ALTER TABLE users DISABLE TRIGGER users_search_changed`)
	e.exec(`INSERT INTO users (id, username, display_name, password_hash) SELECT u, u::text, 'x', '!' FROM unnest($1::text[]::uuid[]) u`, users)
	e.exec(`INSERT INTO conversations (id, type, last_message_at, last_seq, member_count, created_at) VALUES ($1, 'group', now(), $2, $3, now())`, c, messages, members)
	e.exec(`INSERT INTO conversation_members (conversation_id, user_id, role) SELECT $1, u, 'member' FROM unnest($2::text[]::uuid[]) u`, c, users)
	e.exec(`INSERT INTO messages (id, conversation_id, seq, revision, sender_id, content, created_at)
		SELECT m, $1, n, n, $2, 'x', now() FROM unnest($3::text[]::uuid[]) WITH ORDINALITY AS x (m, n)`, c, users[0], sent)
	e.exec(`ANALYZE`)
	return users, sent
}

// usage is what the databases have used so far.
type usage struct {
	redisCPU, pgCPU      float64
	commands, statements int
}

func (e *env) usage() usage {
	e.b.Helper()
	u := usage{redisCPU: meter.CPU(e.redis.PID()), pgCPU: meter.CPU(e.server.PID())}
	info := e.rdb.Info(context.Background(), "stats").Val()
	_, rest, _ := strings.Cut(info, "total_commands_processed:")
	_, _ = fmt.Sscan(rest, &u.commands)
	u.statements = e.count(`SELECT coalesce(sum(calls), 0)::bigint FROM pg_stat_statements WHERE query NOT LIKE '%pg_stat_statements%'`)
	return u
}

type notices struct{ n atomic.Int64 }

func (n *notices) Notify(*event.Notice) { n.n.Add(1) }

func (n *notices) Publish(events ...*event.Event) { n.n.Add(int64(len(events))) }

// BenchmarkReads has the members of a group read all of its messages, each one after the other, and then flushes.
func BenchmarkReads(b *testing.B) {
	n, clients := meter.Size(b, "READS", 100_000), meter.Size(b, "CLIENTS", 1000)
	e := start(b)
	users, sent := e.group(1+n/messages, messages)
	notified := &notices{}
	service := receipt.NewService(e.db.SQL, e.rdb, notified, receipt.NewMemory(), nil, 100, receipt.NewMetrics(prometheus.NewRegistry()), slog.New(slog.DiscardHandler))
	stop := run(b, service.Run)
	defer stop()
	f := e.flusher()
	var in, out usage
	var inTime, outTime time.Duration
	add := func(sum *usage, before, after usage) {
		sum.redisCPU += after.redisCPU - before.redisCPU
		sum.pgCPU += after.pgCPU - before.pgCPU
		sum.commands += after.commands - before.commands
		sum.statements += after.statements - before.statements
	}
	for range b.N {
		e.exec(`TRUNCATE read_receipts`)
		e.exec(`UPDATE conversation_members SET last_read_seq = 0`)
		before, began := e.usage(), time.Now()
		readAll(b, service, users[1:], sent, clients)
		inTime += time.Since(began)
		middle := e.usage()
		add(&in, before, middle)
		began = time.Now()
		if err := f.Flush(context.Background()); err != nil {
			b.Fatal(err)
		}
		outTime += time.Since(began)
		add(&out, middle, e.usage())
		if got := e.count(`SELECT count(*) FROM read_receipts`); got != n {
			b.Fatalf("%d rows of %d reads", got, n)
		}
	}
	per := float64(n) * float64(b.N) / 100_000
	b.ReportMetric(float64(in.commands)/per, "redis-commands-in/100k")
	b.ReportMetric(float64(out.commands)/per, "redis-commands-out/100k")
	b.ReportMetric(in.redisCPU/per, "redis-CPU-s-in/100k")
	b.ReportMetric(out.redisCPU/per, "redis-CPU-s-out/100k")
	b.ReportMetric(in.pgCPU/per, "pg-CPU-s-in/100k")
	b.ReportMetric(out.pgCPU/per, "pg-CPU-s-out/100k")
	b.ReportMetric(float64(in.statements+out.statements)/per, "statements/100k")
	b.ReportMetric(float64(n*b.N)/inTime.Seconds(), "reads/s")
	b.ReportMetric(float64(n*b.N)/outTime.Seconds(), "flushed/s")
	b.ReportMetric(float64(notified.n.Load())/per, "notices/100k")
	b.ReportMetric(0, "ns/op")
}

func readAll(b *testing.B, s *receipt.Service, users, sent []string, clients int) {
	b.Helper()
	var g sync.WaitGroup
	slots := make(chan struct{}, clients)
	for _, u := range users {
		g.Go(func() {
			for _, m := range sent {
				slots <- struct{}{}
				if err := s.Read(context.Background(), u, m, ""); err != nil {
					b.Error(err)
				}
				<-slots
			}
		})
	}
	g.Wait()
}

func run(b *testing.B, part func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := part(ctx); err != nil {
			b.Error(err)
		}
	}()
	return func() { cancel(); <-done }
}

func (e *env) flusher() *receipt.Flusher {
	return receipt.NewFlusher(e.db.SQL, e.rdb, 10*time.Second, nil, receipt.NewFlushMetrics(prometheus.NewRegistry()), slog.New(slog.DiscardHandler))
}

// BenchmarkFlush flushes reads of three shapes, in turns with a plain insert of the same rows into the same table in
// statements of the same size, which reads nothing, joins nothing and removes nothing.
func BenchmarkFlush(b *testing.B) {
	n := meter.Size(b, "READS", 100_000)
	for _, shape := range []struct {
		name              string
		messages, readers int
	}{{"a hundred messages", messages, n / messages}, {"one message", 1, n}, {"a message each", n, 1}} {
		b.Run(strings.ReplaceAll(shape.name, " ", "_"), func(b *testing.B) {
			e := start(b)
			users, sent := e.group(1+shape.readers, shape.messages)
			users = users[1:]
			f := e.flusher()
			var flush, plain time.Duration
			var flushed, single float64
			for range b.N {
				for range 3 { // in turns, so that what else the machine does meets both
					e.exec(`TRUNCATE read_receipts`)
					plain += e.plain(sent, users)
					e.exec(`TRUNCATE read_receipts`)
					e.pending(sent, users)
					began := time.Now()
					if err := f.Flush(context.Background()); err != nil {
						b.Fatal(err)
					}
					flush += time.Since(began)
					flushed += float64(n)
					if got := e.count(`SELECT count(*) FROM read_receipts`); got != n {
						b.Fatalf("%d rows of %d reads", got, n)
					}
				}
				single = e.rowByRow(sent, users)
			}
			b.ReportMetric(flushed/flush.Seconds(), "flushed/s")
			b.ReportMetric(flushed/plain.Seconds(), "plain/s")
			b.ReportMetric(plain.Seconds()/flush.Seconds(), "ratio")
			b.ReportMetric(single, "row-by-row/s")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// pending puts reads into Redis as read.lua does.
func (e *env) pending(sent, users []string) {
	e.b.Helper()
	ctx := context.Background()
	at := time.Now().UnixMilli()
	for len(sent) > 0 {
		part := sent[:min(len(sent), 1000)]
		sent = sent[len(part):]
		_, err := e.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
			for _, m := range part {
				p.ZAdd(ctx, rediskey.DirtyMessages, redis.Z{Score: float64(at), Member: m})
				for i := 0; i < len(users); i += 1000 {
					var z []redis.Z
					for k, u := range users[i:min(len(users), i+1000)] {
						z = append(z, redis.Z{Score: float64(at + int64((i+k)/8)), Member: u}) // eight in a millisecond
					}
					p.ZAdd(ctx, "read_batch:"+m, z...)
				}
				p.Set(ctx, "read_count:"+m, len(users), 0)
			}
			return nil
		})
		if err != nil {
			e.b.Fatal(err)
		}
	}
}

// plain inserts every pair.
func (e *env) plain(sent, users []string) time.Duration {
	e.b.Helper()
	var m, u []pgtype.UUID
	var at []time.Time
	var took time.Duration
	now := time.Now()
	flush := func() {
		began := time.Now()
		e.exec(`INSERT INTO read_receipts (message_id, user_id, read_at)
			SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[]) ON CONFLICT DO NOTHING`, m, u, at)
		took += time.Since(began)
		m, u, at = m[:0], u[:0], at[:0]
	}
	for _, x := range sent {
		for _, y := range users {
			if m, u, at = append(m, uuid(x)), append(u, uuid(y)), append(at, now); len(m) == pieceRows {
				flush()
			}
		}
	}
	if len(m) > 0 {
		flush()
	}
	return took
}

func uuid(s string) (u pgtype.UUID) {
	_ = u.Scan(s)
	return u
}

// rowByRow inserts a part of the pairs one by one, and answers how many a second.
func (e *env) rowByRow(sent, users []string) float64 {
	e.b.Helper()
	e.exec(`TRUNCATE read_receipts`)
	const most = 2000
	began, n := time.Now(), 0
	for _, m := range sent {
		for _, u := range users {
			if n == most {
				return most / time.Since(began).Seconds()
			}
			e.exec(`INSERT INTO read_receipts (message_id, user_id, read_at) VALUES ($1, $2, clock_timestamp()) ON CONFLICT DO NOTHING`, m, u)
			n++
		}
	}
	return float64(n) / time.Since(began).Seconds()
}

// BenchmarkFind finds 200 dirty messages among many other keys, by the index and by SCAN.
func BenchmarkFind(b *testing.B) {
	const dirty = 200
	others := meter.Size(b, "KEYS", 1_000_000)
	server := testenv.Redis(b)
	rdb := server.Client(b)
	ctx := context.Background()
	for i := 0; i < others; i += 10_000 {
		_, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
			for k := range 10_000 {
				p.Set(ctx, "presence:"+id.New()+":"+strconv.Itoa(k), "", time.Hour)
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	for range dirty {
		m := id.New()
		rdb.ZAdd(ctx, rediskey.DirtyMessages, redis.Z{Score: 1, Member: m})
		rdb.ZAdd(ctx, "read_batch:"+m, redis.Z{Score: 1, Member: id.New()})
	}
	b.Run("index", func(b *testing.B) {
		before := meter.CPU(server.PID())
		for range b.N {
			if n := len(rdb.ZRangeArgsWithScores(ctx, redis.ZRangeArgs{Key: rediskey.DirtyMessages, Start: "-inf", Stop: "+inf", ByScore: true, Count: 2000}).Val()); n != dirty {
				b.Fatalf("found %d", n)
			}
		}
		b.ReportMetric((meter.CPU(server.PID())-before)/float64(b.N)*1000, "redis-CPU-ms/op")
	})
	b.Run("scan", func(b *testing.B) {
		before := meter.CPU(server.PID())
		for range b.N {
			n, it := 0, rdb.Scan(ctx, 0, "read_batch:*", 1000).Iterator()
			for it.Next(ctx) {
				n++
			}
			if n != dirty {
				b.Fatalf("found %d", n)
			}
		}
		b.ReportMetric((meter.CPU(server.PID())-before)/float64(b.N)*1000, "redis-CPU-ms/op")
	})
}
