package bench

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/parley-chat/parley/bench/meter"
	"github.com/parley-chat/parley/internal/outbound"
	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/testenv"
	"github.com/parley-chat/parley/internal/webhook"
)

var hookKey = []byte(strings.Repeat("k", 32))

// endpoint makes a webhook of types, from "now" or "beginning".
func (s *system) endpoint(b *testing.B, name, url, from string, types ...string) {
	b.Helper()
	db, err := postgres.Open(postgres.Config{URL: s.pg.URL(), MaxConns: 1, Application: "bench"})
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	sealer, err := webhook.NewSealer([][]byte{hookKey})
	if err != nil {
		b.Fatal(err)
	}
	d := webhook.Draft{Name: name, URL: url, Types: types}
	d.From.Set, d.From.Value = true, from
	guard := &outbound.Guard{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
	if _, err := webhook.NewService(db, sealer, guard, time.Second).Create(context.Background(), &d); err != nil {
		b.Fatal(err)
	}
}

// dispatcher starts one as it is shipped.
func (s *system) dispatcher(b *testing.B) *testenv.Process {
	b.Helper()
	return testenv.Start(b, testenv.ReleaseBinary(b, "dispatcher"), nil, []string{
		"PARLEY_DATABASE_URL=" + s.pg.URL(), "PARLEY_REDIS_URL=" + s.redis.URL(), "PARLEY_SECRETS_KEY=" + base64.StdEncoding.EncodeToString(hookKey),
		"PARLEY_WEBHOOK_ALLOW_CIDRS=127.0.0.0/8", "PARLEY_LOG_FORMAT=text", fmt.Sprintf("PARLEY_OPS_ADDR=127.0.0.1:%d", testenv.FreePort(b)),
	})
}

// cost is what a turn of sends took. The CPU is in seconds; commands are Redis's.
type cost struct{ sent, seconds, api, postgres, redis, commands float64 }

// rate is the sends a second; the others are per send.
func (c cost) rate() float64 { return c.sent / c.seconds }

// BenchmarkSendWithWebhooks has 64 senders, in pairs of turns without a webhook and with ten of them that want everything (six pairs of
// 4 s: PARLEY_BENCH_PAIRS, PARLEY_BENCH_SECONDS). It prints the ratios of each pair, with to without, and reports their medians: so one run
// decides. No dispatcher runs: what it costs to deliver is BenchmarkDeliveries'. A send is to cost what it costs without, within 5 %.
func BenchmarkSendWithWebhooks(b *testing.B) {
	span, pairs := time.Duration(meter.Size(b, "SECONDS", 4))*time.Second, meter.Size(b, "PAIRS", 6)
	s := start(b, 1)
	who := s.people(b, senders)
	groups := make([]string, senders)
	for i := range groups {
		groups[i] = s.group(b, []person{who[i], who[(i+1)%senders], who[(i+2)%senders]})
	}
	l := s.newLoad(b, who, groups)
	rdb := s.redis.Client(b)
	sent := l.run(b, time.Second) // warm
	turn := func() (c cost) {
		api, pg, redis, commands, begun := s.podCPU(), meter.CPU(s.pg.PID()), meter.CPU(s.redis.PID()), commandsOf(b, rdb), time.Now()
		n := l.run(b, span)
		sent += n
		return cost{
			sent: float64(n), seconds: time.Since(begun).Seconds(), api: s.podCPU() - api, postgres: meter.CPU(s.pg.PID()) - pg,
			redis: meter.CPU(s.redis.PID()) - redis, commands: commandsOf(b, rdb) - commands,
		}
	}
	for i := range 10 {
		s.endpoint(b, fmt.Sprint("hook ", i), "https://example.com/", "now", "*")
	}
	s.exec(b, `CREATE TABLE kept AS SELECT * FROM webhooks`)
	without := func() cost {
		s.exec(b, `DELETE FROM webhooks`)
		return turn()
	}
	with := func() cost {
		s.exec(b, `DELETE FROM webhooks`)
		s.exec(b, `INSERT INTO webhooks SELECT * FROM kept`)
		return turn()
	}
	ratios := map[string][]float64{}
	for i := range pairs * b.N {
		var none, ten cost
		if i%2 == 0 { // what grows meets both alike
			none = without()
			ten = with()
		} else {
			ten = with()
			none = without()
		}
		line := ""
		for _, m := range []struct {
			name string
			of   func(c cost) float64
		}{
			{"sends", cost.rate},
			{"api-CPU", func(c cost) float64 { return c.api / c.sent }},
			{"postgres-CPU", func(c cost) float64 { return c.postgres / c.sent }},
			{"redis-CPU", func(c cost) float64 { return c.redis / c.sent }},
			{"redis-commands", func(c cost) float64 { return c.commands / c.sent }},
		} {
			r := m.of(ten) / m.of(none)
			ratios[m.name] = append(ratios[m.name], r)
			line += fmt.Sprintf("  %s %.3f", m.name, r)
		}
		b.Logf("pair %d: %.0f sends/s without, %.0f with, %.2f redis commands a send; ratios:%s", i+1, none.rate(), ten.rate(), ten.commands/ten.sent, line)
	}
	l.prove(b, s, sent)
	for name, list := range ratios {
		slices.Sort(list)
		b.ReportMetric((list[(len(list)-1)/2]+list[len(list)/2])/2, name+"-ratio")
	}
	b.ReportMetric(0, "ns/op")
}

// commandsOf is how many commands Redis has processed.
func commandsOf(b *testing.B, rdb *redis.Client) float64 {
	b.Helper()
	info, err := rdb.Info(context.Background(), "stats").Result()
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(info, "total_commands_processed:")
	text, _, _ := strings.Cut(rest, "\r")
	n, err := strconv.ParseFloat(text, 64)
	if err != nil {
		b.Fatal(err)
	}
	return n
}

// BenchmarkIdleDispatcher measures the CPU of a dispatcher that has ten webhooks and nothing to do, for 10 s (PARLEY_BENCH_SECONDS) with
// hints, and for as long without Redis, when it polls as often as it can.
func BenchmarkIdleDispatcher(b *testing.B) {
	span := time.Duration(meter.Size(b, "SECONDS", 10)) * time.Second
	s := start(b, 0)
	for i := range 10 {
		s.endpoint(b, fmt.Sprint("hook ", i), "https://example.com/", "now", "*")
	}
	d := s.dispatcher(b)
	time.Sleep(2 * time.Second) // it starts
	for range b.N {
		for _, unit := range []string{"", "-without-redis"} {
			own, pg := meter.CPU(d.PID()), meter.CPU(s.pg.PID())
			time.Sleep(span)
			b.ReportMetric((meter.CPU(d.PID())-own)/span.Seconds()*100, "dispatcher-CPU-%"+unit)
			b.ReportMetric((meter.CPU(s.pg.PID())-pg)/span.Seconds()*100, "postgres-CPU-%"+unit)
			s.redis.Stop()
		}
		s.redis.Start()
	}
	b.ReportMetric(0, "ns/op")
}

// sink is a receiver that counts, and knows how long after its commit each event came.
type sink struct {
	*httptest.Server
	mu    sync.Mutex
	n     int
	took  []time.Duration
	timed bool
}

func newSink(b *testing.B, timed bool) *sink {
	b.Helper()
	s := &sink{timed: timed}
	s.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		now := time.Now()
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.n++; s.timed {
			_, rest, _ := bytes.Cut(body, []byte(`"timestamp":"`))
			text, _, _ := bytes.Cut(rest, []byte(`"`))
			if at, err := time.Parse(time.RFC3339Nano, string(text)); err == nil {
				s.took = append(s.took, now.Sub(at))
			}
		}
	}))
	b.Cleanup(s.Close)
	return s
}

func (s *sink) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.n
}

// backlog makes conversations with messages that nobody has delivered, and returns how many changes there are.
func (s *system) backlog(b *testing.B, conversations, messages int) int {
	b.Helper()
	who := s.people(b, 1)
	for range conversations {
		g := s.group(b, who)
		s.exec(b, `INSERT INTO messages (id, conversation_id, seq, revision, sender_id, content, created_at)
			SELECT overlay(gen_random_uuid()::text PLACING '7' FROM 15 FOR 1)::uuid, $1, n, n + 1, $2, $4, now() - interval '1 minute' FROM generate_series(1, $3::bigint) n`,
			g, who[0].id, messages, text)
		s.exec(b, `UPDATE conversations SET last_seq = $2, revision = $2::bigint + 1, changed_at = now() WHERE id = $1`, g, messages)
	}
	s.exec(b, `VACUUM ANALYZE`)
	return conversations * (messages + 1)
}

// BenchmarkDeliveries has a dispatcher deliver a backlog to one receiver: of 100,000 events by default (PARLEY_BENCH_EVENTS).
func BenchmarkDeliveries(b *testing.B) {
	events := meter.Size(b, "EVENTS", 100_000)
	for range b.N {
		s := start(b, 0)
		total := s.backlog(b, 200, events/200)
		r := newSink(b, false)
		s.endpoint(b, "hook", r.URL, "beginning", "*")
		pg := meter.CPU(s.pg.PID())
		d := s.dispatcher(b)
		var begun time.Time
		var rss, idle float64
		testenv.Eventually(b, time.Minute, func() bool { idle = max(idle, meter.RSS(b, d.PID())); return r.count() > 0 }, "deliveries begin")
		begun = time.Now()
		testenv.Eventually(b, 30*time.Minute, func() bool {
			rss = max(rss, meter.RSS(b, d.PID()))
			return r.count() >= total
		}, "all is delivered")
		took := time.Since(begun).Seconds()
		b.ReportMetric(float64(total)/took, "deliveries/s")
		b.ReportMetric(meter.CPU(d.PID())/float64(total)*1e4, "dispatcher-CPU-s/10k")
		b.ReportMetric((meter.CPU(s.pg.PID())-pg)/float64(total)*1e4, "postgres-CPU-s/10k")
		b.ReportMetric(rss/1024, "RSS-MiB")
		b.ReportMetric(0, "ns/op")
	}
}

// BenchmarkCatchUp has a dispatcher follow a journal that is a million changes ahead (PARLEY_BENCH_BEHIND), for an endpoint that wants
// the creation of conversations alone: 100 messages for each. So it is the follower that is measured.
func BenchmarkCatchUp(b *testing.B) {
	behind := meter.Size(b, "BEHIND", 1_000_000)
	for range b.N {
		s := start(b, 0)
		total := s.backlog(b, max(1, behind/1000), 1000)
		r := newSink(b, false)
		s.endpoint(b, "hook", r.URL, "beginning", "conversation.created")
		d := s.dispatcher(b)
		begun := time.Now()
		testenv.Eventually(b, 30*time.Minute, func() bool {
			var left bool
			err := s.db.QueryRow(`SELECT NOT EXISTS (SELECT FROM webhook_places) OR EXISTS (SELECT FROM webhook_places WHERE behind)`).Scan(&left)
			return err == nil && !left
		}, "it has caught up")
		took := time.Since(begun).Seconds()
		if n := r.count(); n < total/1001 {
			b.Fatalf("%d deliveries of %d", n, total/1001)
		}
		b.ReportMetric(float64(total)/took, "events/s")
		b.ReportMetric(meter.CPU(d.PID())/float64(total)*1e4, "dispatcher-CPU-s/10k")
		b.ReportMetric(0, "ns/op")
	}
}

// BenchmarkFirstAttempt has a message sent every 20 ms, and measures from its commit until it reaches the receiver.
func BenchmarkFirstAttempt(b *testing.B) {
	span := time.Duration(meter.Size(b, "SECONDS", 5)) * time.Second
	s := start(b, 1)
	who := s.people(b, 2)
	g := s.group(b, who)
	l := s.newLoad(b, who[:1], []string{g})
	r := newSink(b, true)
	s.endpoint(b, "hook", r.URL, "now", "*")
	s.dispatcher(b)
	for range b.N {
		sent := 0
		for end := time.Now().Add(span); time.Now().Before(end); sent++ {
			if err := l.sockets[0].send(g, fmt.Sprint(b.N, " ", sent)); err != nil {
				b.Fatal(err)
			}
			if err := <-l.acks[0]; err != nil {
				b.Fatal(err)
			}
			time.Sleep(20 * time.Millisecond)
		}
		testenv.Eventually(b, time.Minute, func() bool { return r.count() >= sent }, "all is delivered")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	slices.Sort(r.took)
	b.ReportMetric(float64(r.took[len(r.took)/2].Milliseconds()), "p50-ms")
	b.ReportMetric(float64(r.took[len(r.took)*99/100].Milliseconds()), "p99-ms")
	b.ReportMetric(0, "ns/op")
}
