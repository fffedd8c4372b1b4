package bench

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/parley-chat/parley/bench/meter"
	"github.com/parley-chat/parley/internal/id"
)

const senders = 64

// pgbenchScript is a send as a client of Postgres would write it: the conversation's row hands out the seq, the sender's
// own marker moves, the message is inserted. Each client has a conversation of its own, so that none waits for another's.
const pgbenchScript = `BEGIN;
UPDATE conversations c SET last_seq = last_seq + 1, revision = revision + 1, changed_at = date_trunc('second', clock_timestamp()),
  last_message_at = greatest(clock_timestamp(), last_message_at + interval '1 microsecond'),
  last_message_id = encode(overlay(uuid_send(gen_random_uuid()) placing
    substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3) FROM 1 FOR 6), 'hex')::uuid
  FROM bench_clients b WHERE b.client = :client_id AND c.id = b.conversation_id
  RETURNING c.id AS conversation, b.user_id AS sender, last_seq, revision, last_message_id AS message, last_message_at AS at \gset
UPDATE conversation_members SET last_read_seq = :last_seq WHERE conversation_id = :conversation AND user_id = :sender;
INSERT INTO messages (id, conversation_id, seq, revision, sender_id, content, client_message_id, created_at)
  VALUES (:message, :conversation, :last_seq, :revision, :sender, '` + text + `', :message, :at);
COMMIT;
`

// BenchmarkSend has 64 senders, each waiting for the commit of one message before the next, in groups of three whose
// members all listen, and beside it, in turns, pgbench with the same transaction on the same tables.
func BenchmarkSend(b *testing.B) {
	span := time.Duration(meter.Size(b, "SECONDS", 5)) * time.Second
	s := start(b, 1)
	who := s.people(b, senders)
	groups := make([]string, senders)
	for i := range groups {
		groups[i] = s.group(b, []person{who[i], who[(i+1)%senders], who[(i+2)%senders]})
	}
	s.pgbenchTables(b)
	old := s.people(b, 1)
	s.messages(b, s.group(b, old), old[0].id, meter.Size(b, "STORED", 200_000)) // plans are made for a table with messages, as they are but once
	l := s.newLoad(b, who, groups)
	var sent, committed int64
	var sendTime, pgTime, sendCPU, podCPU, redisCPU, pgCPU, wal float64
	allocated := s.pods[0].metric(b, "go_memstats_mallocs_total")
	statements := s.pods[0].metric(b, "parley_message_batch_size_count")
	keep := s.keepCPU(b, "4")
	for range b.N {
		for range 2 { // in turns, so that what else the machine does meets both
			before, pods, redis, logged, start := s.allCPU(), s.podCPU(), meter.CPU(s.redis.PID()), s.wal(b), time.Now()
			sent += l.run(b, span)
			sendTime += time.Since(start).Seconds()
			sendCPU += s.allCPU() - before
			podCPU += s.podCPU() - pods
			redisCPU += meter.CPU(s.redis.PID()) - redis
			wal += s.wal(b) - logged
			before = meter.CPU(s.pg.PID())
			n, took := s.pgbench(b, span)
			committed, pgTime = committed+n, pgTime+took
			pgCPU += meter.CPU(s.pg.PID()) - before
		}
	}
	keep()
	b.ReportMetric((s.pods[0].metric(b, "go_memstats_mallocs_total")-allocated)/float64(sent), "allocations/send")
	b.ReportMetric(float64(sent)/(s.pods[0].metric(b, "parley_message_batch_size_count")-statements), "sends/statement")
	l.prove(b, s, sent)
	sends, transactions := float64(sent)/sendTime, float64(committed)/pgTime
	b.ReportMetric(sends, "sends/s")
	b.ReportMetric(transactions, "pgbench/s")
	b.ReportMetric(sends/transactions, "ratio")
	b.ReportMetric(sendCPU/float64(sent)*1e5, "CPU-s/100k-sends")
	b.ReportMetric(podCPU/float64(sent)*1e5, "api-CPU-s/100k-sends")
	b.ReportMetric(redisCPU/float64(sent)*1e5, "redis-CPU-s/100k-sends")
	b.ReportMetric(wal/float64(sent), "WAL-B/send")
	b.ReportMetric(pgCPU/float64(committed)*1e5, "CPU-s/100k-pgbench")
	b.ReportMetric(0, "ns/op")
}

// wal is how much Postgres has written to its log, in bytes.
func (s *system) wal(b *testing.B) (n float64) {
	b.Helper()
	if err := s.db.QueryRow(`SELECT pg_current_wal_lsn() - '0/0'`).Scan(&n); err != nil {
		b.Fatal(err)
	}
	return n
}

// load are the senders with their sockets.
type load struct {
	groups   []string
	sockets  []*socket
	index    map[*socket]int
	acks     []chan error
	received *receivers
}

func (s *system) newLoad(b *testing.B, who []person, groups []string) *load {
	b.Helper()
	l := &load{groups: groups, sockets: s.openAll(b, who), index: map[*socket]int{}}
	for i, x := range l.sockets {
		l.index[x] = i
		l.acks = append(l.acks, make(chan error, 1))
	}
	l.received = receive(b, l.sockets, l.answer)
	return l
}

var isAck = []byte(`{"type":"ack"`)

// answer takes what a send got.
func (l *load) answer(s *socket, payload []byte) error {
	var err error
	if !bytes.HasPrefix(payload, isAck) {
		if !bytes.HasPrefix(payload, []byte(`{"type":"error"`)) {
			return nil
		}
		err = fmt.Errorf("refused: %s", payload)
	}
	l.acks[l.index[s]] <- err
	return nil
}

// run sends for a time and answers how many messages were acknowledged.
func (l *load) run(b *testing.B, span time.Duration) int64 {
	b.Helper()
	var acknowledged atomic.Int64
	var wg sync.WaitGroup
	end := time.Now().Add(span)
	for i, s := range l.sockets {
		wg.Go(func() {
			for time.Now().Before(end) {
				err := s.send(l.groups[i], id.New())
				if err == nil {
					err = <-l.acks[i]
				}
				if err != nil {
					b.Error(err)
					return
				}
				acknowledged.Add(1)
			}
		})
	}
	wg.Wait()
	return acknowledged.Load()
}

// prove holds what was acknowledged against the table and against what came: each message thrice.
func (l *load) prove(b *testing.B, s *system, sent int64) {
	b.Helper()
	l.received.await(b, 3*sent)
	var stored int64
	if err := s.db.QueryRow(`SELECT count(*) FROM messages WHERE conversation_id = ANY ($1::text[]::uuid[])`, l.groups).Scan(&stored); err != nil {
		b.Fatal(err)
	}
	if got := l.received.got.Load(); stored != sent || got != 3*sent {
		b.Fatalf("%d acknowledged, %d stored, %d delivered", sent, stored, got)
	}
}

// pgbenchTables gives each of pgbench's clients a group of three, whom no pod serves.
func (s *system) pgbenchTables(b *testing.B) {
	b.Helper()
	who := s.people(b, senders)
	s.exec(b, `CREATE TABLE bench_clients (client int PRIMARY KEY, conversation_id uuid, user_id uuid)`)
	for i := range senders {
		g := s.group(b, []person{who[i], who[(i+1)%senders], who[(i+2)%senders]})
		s.exec(b, `INSERT INTO bench_clients VALUES ($1, $2, $3)`, i, g, who[i].id)
	}
	s.exec(b, `VACUUM ANALYZE`)
}

var processed = regexp.MustCompile(`number of transactions actually processed: (\d+)`)

// pgbench runs the transaction for a time and answers how many were committed, and in how many seconds.
func (s *system) pgbench(b *testing.B, span time.Duration) (int64, float64) {
	b.Helper()
	script := filepath.Join(b.TempDir(), "send.sql")
	if err := os.WriteFile(script, []byte(pgbenchScript), 0o600); err != nil {
		b.Fatal(err)
	}
	program, _ := filepath.Glob("/usr/lib/postgresql/*/bin/pgbench")
	if len(program) == 0 {
		b.Skip("no pgbench")
	}
	start := time.Now()
	out, err := exec.Command(program[len(program)-1], "-n", "-M", "prepared", "-c", strconv.Itoa(senders), "-j", "2", //nolint:gosec // as above
		"-T", strconv.Itoa(int(span.Seconds())), "-f", script, s.pg.URL()).CombinedOutput()
	took := time.Since(start).Seconds()
	m := processed.FindSubmatch(out)
	if err != nil || m == nil {
		b.Fatalf("pgbench: %v: %.500s", err, out)
	}
	n, _ := strconv.ParseInt(string(m[1]), 10, 64)
	return n, min(took, span.Seconds())
}
