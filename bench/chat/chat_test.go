// Package chat measures messages: sending, history, sockets, fan-out. Every run counts what arrived.
package chat

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/parley-chat/parley/bench/harness"
	"github.com/parley-chat/parley/internal/cursor"
	"github.com/parley-chat/parley/internal/message"
	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/testenv"
)

func frame(conversation string, n int) []byte {
	return fmt.Appendf(nil, `{"type":"message:send","id":"%d","data":{"conversationId":"%s","content":"Some words of usual length, as people write them.","clientMessageId":"%d"}}`, n, conversation, n)
}

// BenchmarkSend has 64 senders in groups of 3, each with one message in flight, against pgbench with as many clients and
// the same transaction on the same server, in turn.
func BenchmarkSend(b *testing.B) {
	const senders, each = 64, 300
	s := harness.Start(b, 1)
	var frames atomic.Int64
	type sender struct {
		*harness.Client
		conversation string
		acks         chan struct{}
	}
	var list []*sender
	for range senders {
		users := testenv.Users(b, s.DB, 3)
		x := &sender{conversation: s.Group(users), acks: make(chan struct{}, 1)}
		c, err := s.Dial(s.Pods[0], users[0], &frames)
		if err != nil {
			b.Fatal(err)
		}
		x.Client = c
		c.OnFrame = func(p []byte) {
			if bytes.HasPrefix(p, []byte(`{"type":"ack"`)) {
				x.acks <- struct{}{}
			}
		}
		go c.Read()
		list = append(list, x)
	}
	run := func(from, to int) {
		var wg sync.WaitGroup
		for _, x := range list {
			wg.Go(func() {
				for n := from; n < to; n++ {
					if err := x.Write(frame(x.conversation, n)); err != nil {
						b.Error(err)
						return
					}
					<-x.acks
				}
			})
		}
		wg.Wait()
	}
	run(0, 20)
	sent := 20
	var ours, theirs float64
	var cpu [3]float64 // api, Redis, Postgres
	b.ResetTimer()
	for range b.N {
		from := [3]float64{harness.CPU(b, s.Pods[0].PID()), harness.CPU(b, s.Redis.PID()), s.PostgresCPU()}
		start := time.Now()
		run(sent, sent+each)
		sent += each
		ours += senders * each / time.Since(start).Seconds()
		for i, now := range [3]float64{harness.CPU(b, s.Pods[0].PID()), harness.CPU(b, s.Redis.PID()), s.PostgresCPU()} {
			cpu[i] += now - from[i]
		}
		theirs += pgbench(b, s, senders)
	}
	var stored int
	if err := s.DB.QueryRow(`SELECT count(*) FROM messages WHERE client_message_id IS NOT NULL`).Scan(&stored); err != nil || stored != senders*sent {
		b.Fatalf("%d messages are stored of %d (%v)", stored, senders*sent, err)
	}
	n := float64(b.N)
	b.ReportMetric(ours/n, "sends/s")
	b.ReportMetric(theirs/n, "pgbench/s")
	b.ReportMetric(ours/theirs, "ratio")
	for i, name := range []string{"api", "redis", "postgres"} {
		b.ReportMetric(cpu[i]/n/(senders*each)*1e5, name+"-cpu-s/100k")
	}
}

const transaction = `
\set n :client_id + 1
BEGIN;
UPDATE conversations SET last_seq = last_seq + 1, revision = revision + 1, last_message_at = clock_timestamp(), last_message_id = gen_random_uuid(), changed_at = date_trunc('second', clock_timestamp()) WHERE id = (SELECT c FROM bench_ids WHERE n = :n);
UPDATE conversation_members SET last_read_seq = last_read_seq + 1 WHERE conversation_id = (SELECT c FROM bench_ids WHERE n = :n) AND user_id = (SELECT u FROM bench_ids WHERE n = :n);
INSERT INTO messages (id, conversation_id, seq, revision, sender_id, content, created_at) SELECT gen_random_uuid(), c.id, c.last_seq, c.revision, i.u, 'Some words of usual length, as people write them.', clock_timestamp() FROM bench_ids i JOIN conversations c ON c.id = i.c WHERE i.n = :n;
COMMIT;
`

// pgbench runs the transaction for some seconds and answers how many it did in one.
func pgbench(b *testing.B, s *harness.System, clients int) float64 {
	b.Helper()
	if _, err := s.DB.Exec(`CREATE TABLE IF NOT EXISTS bench_ids (n int PRIMARY KEY, c uuid, u uuid)`); err != nil {
		b.Fatal(err)
	}
	var n int
	if err := s.DB.QueryRow(`SELECT count(*) FROM bench_ids`).Scan(&n); err != nil {
		b.Fatal(err)
	}
	for ; n < clients; n++ {
		users := testenv.Users(b, s.DB, 3)
		if _, err := s.DB.Exec(`INSERT INTO bench_ids VALUES ($1, $2, $3)`, n+1, s.Group(users), users[0]); err != nil {
			b.Fatal(err)
		}
	}
	if _, err := s.DB.Exec(`ANALYZE bench_ids`); err != nil {
		b.Fatal(err)
	}
	file := filepath.Join(b.TempDir(), "send.sql")
	if err := os.WriteFile(file, []byte(transaction), 0o600); err != nil {
		b.Fatal(err)
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/pgbench")
	out, err := exec.Command(found[len(found)-1], "-n", "-M", "prepared", "-c", strconv.Itoa(clients), "-j", "2", "-T", "5", "-f", file, s.URL).CombinedOutput()
	m := regexp.MustCompile(`tps = ([0-9.]+)`).FindSubmatch(out)
	if err != nil || m == nil {
		b.Fatalf("pgbench: %v: %s", err, out)
	}
	tps, _ := strconv.ParseFloat(string(m[1]), 64)
	return tps
}

// BenchmarkHistory reads pages of 50 at the end of a conversation of 1.1 million messages, and a million before it.
func BenchmarkHistory(b *testing.B) {
	s := harness.Start(b, 1)
	users := testenv.Users(b, s.DB, 3)
	c := s.Group(users)
	for _, q := range []string{
		`INSERT INTO messages (id, conversation_id, seq, revision, sender_id, content, created_at)
			SELECT gen_random_uuid(), '` + c + `', n, n + 1, '` + users[0] + `', 'Some words of usual length, as people write them.', timestamptz '2026-01-01' + n * interval '1 second'
			FROM generate_series(1, 1100000) n`,
		`UPDATE conversations SET last_seq = 1100000, revision = 1100001 WHERE id = '` + c + `'`, `VACUUM ANALYZE messages`,
	} {
		if _, err := s.DB.Exec(q); err != nil {
			b.Fatal(err)
		}
	}
	db, err := postgres.Open(postgres.Config{URL: s.URL, MaxConns: 2, Application: "bench"})
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	service := message.NewService(db, message.NewStore(db), nil, nil)
	token := s.Token(users[0])
	for name, before := range map[string]*cursor.Position{
		"First": nil, "Deep": {Time: time.Date(2026, 1, 1, 0, 0, 100_000, 0, time.UTC), ID: users[0]},
	} {
		b.Run(name+"/Database", func(b *testing.B) {
			var took []time.Duration
			for b.Loop() {
				start := time.Now()
				page, err := service.History(context.Background(), c, users[0], before, 50)
				if err != nil || len(page.Messages) != 50 {
					b.Fatal(len(page.Messages), err)
				}
				took = append(took, time.Since(start))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
		})
		b.Run(name+"/REST", func(b *testing.B) {
			url := "http://" + s.Pods[0].Addr + "/api/conversations/" + c + "/messages"
			if before != nil {
				url += "?cursor=" + cursor.Encode(*before)
			}
			for b.Loop() {
				q, _ := http.NewRequest(http.MethodGet, url, nil)
				q.Header.Set("Authorization", "Bearer "+token)
				r, err := http.DefaultClient.Do(q)
				if err != nil || r.StatusCode != http.StatusOK {
					b.Fatal(r, err)
				}
				_, _ = io.Copy(io.Discard, r.Body)
				_ = r.Body.Close()
			}
		})
	}
}

// connect opens sockets, spread over the pods, some at a time.
func connect(b *testing.B, s *harness.System, users []string, frames *atomic.Int64) []*harness.Client {
	b.Helper()
	clients := make([]*harness.Client, len(users))
	var wg sync.WaitGroup
	var next atomic.Int64
	for range 16 {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(users); i = int(next.Add(1)) - 1 {
				c, err := s.Dial(s.Pods[i%len(s.Pods)], users[i], frames)
				if err != nil {
					b.Error(err)
					return
				}
				clients[i] = c
				go c.Read()
			}
		})
	}
	wg.Wait()
	if b.Failed() {
		b.FailNow()
	}
	b.Cleanup(func() {
		for _, c := range clients {
			_ = c.Conn.Close()
		}
	})
	return clients
}

// BenchmarkConnections opens 10,000 idle sockets of 10,000 users, a thousand to a group.
func BenchmarkConnections(b *testing.B) {
	const n = 10_000
	for range b.N {
		s := harness.Start(b, 1)
		users := testenv.Users(b, s.DB, n)
		for i := 0; i < n; i += 1000 {
			s.Group(users[i : i+1000])
		}
		pid := s.Pods[0].PID()
		rss, cpu := harness.RSS(b, pid), harness.CPU(b, pid)
		var frames atomic.Int64
		connect(b, s, users, &frames)
		cpu = harness.CPU(b, pid) - cpu
		time.Sleep(10 * time.Second) // idle: two collections of the runtime's own are past by then
		b.ReportMetric((harness.RSS(b, pid)-rss)/n, "KiB/socket")
		b.ReportMetric(cpu/n*1000, "cpu-s/1000-connects")
	}
}

// BenchmarkFanOut sends to everybody's sockets, one message in flight, and with all of them in flight.
func BenchmarkFanOut(b *testing.B) {
	for _, pods := range []int{1, 2} {
		for _, receivers := range []int{100, 1000, 5000} {
			b.Run(fmt.Sprintf("%dpods/%d", pods, receivers), func(b *testing.B) { fanOut(b, pods, receivers) })
		}
	}
}

func fanOut(b *testing.B, pods, receivers int) {
	s := harness.Start(b, pods)
	users := testenv.Users(b, s.DB, receivers+1)
	c := s.Group(users)
	var got, own atomic.Int64
	connect(b, s, users[1:], &got)
	sender, err := s.Dial(s.Pods[0], users[0], &own)
	if err != nil {
		b.Fatal(err)
	}
	go sender.Read()
	cpu := func() (sum float64) {
		for _, p := range s.Pods {
			sum += harness.CPU(b, p.PID())
		}
		return sum
	}
	messages := max(20, 200_000/receivers)
	sent := 0
	send := func() {
		if err := sender.Write(frame(c, sent)); err != nil {
			b.Fatal(err)
		}
		sent++
	}
	arrived := func(want int64) {
		testenv.Eventually(b, time.Minute, func() bool { return got.Load() >= want }, "all %d deliveries", want)
	}
	send()
	arrived(int64(receivers))
	var inFlight, backlog float64
	b.ResetTimer()
	for range b.N {
		from := cpu()
		for range messages {
			send()
			want := int64(sent) * int64(receivers)
			for deadline := time.Now().Add(10 * time.Second); got.Load() < want; time.Sleep(200 * time.Microsecond) {
				if time.Now().After(deadline) {
					b.Fatalf("%d deliveries of %d", got.Load(), want)
				}
			}
		}
		inFlight += cpu() - from
		from = cpu()
		for range messages {
			send()
		}
		arrived(int64(sent) * int64(receivers))
		backlog += cpu() - from
	}
	if want := int64(sent) * int64(receivers); got.Load() != want {
		b.Fatalf("%d deliveries, want %d", got.Load(), want)
	}
	deliveries := float64(b.N) * float64(messages) * float64(receivers)
	b.ReportMetric(inFlight/deliveries*1e6, "cpu-s/M-one-in-flight")
	b.ReportMetric(backlog/deliveries*1e6, "cpu-s/M-backlog")
}
