// Package edge measures what a request costs: an authenticated one against a bare Fiber echo, and its limit's share.
package edge

import (
	"bufio"
	"context"
	"database/sql"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/parley-chat/parley/bench/meter"
	"github.com/parley-chat/parley/internal/auth"
	"github.com/parley-chat/parley/internal/config"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/ratelimit"
	"github.com/parley-chat/parley/internal/redisconn"
	"github.com/parley-chat/parley/internal/testenv"
)

const echoVar = "PARLEY_BENCH_ECHO"

// TestMain is the bare echo where the benchmark starts it as a process of its own.
func TestMain(m *testing.M) {
	if addr := os.Getenv(echoVar); addr != "" {
		app := fiber.New(fiber.Config{DisableStartupMessage: true})
		app.Get("/api/users/me", func(c *fiber.Ctx) error { return c.JSON(fiber.Map{"ok": true, "text": "hello"}) })
		fmt.Fprintln(os.Stderr, app.Listen(addr))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

const clients = 8

// load makes n GETs over kept connections.
func load(b *testing.B, addr, token string, n int) {
	b.Helper()
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				b.Error(err)
				return
			}
			defer conn.Close()
			r := bufio.NewReader(conn)
			request := []byte("GET /api/users/me HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + token + "\r\n\r\n")
			for range n / clients {
				if _, err := conn.Write(request); err != nil {
					b.Error(err)
					return
				}
				res, err := http.ReadResponse(r, nil)
				if err != nil || res.StatusCode != http.StatusOK {
					b.Errorf("%+v %v", res, err)
					return
				}
				_, _ = io.Copy(io.Discard, res.Body)
				_ = res.Body.Close()
			}
		})
	}
	wg.Wait()
}

// BenchmarkAuthenticatedGet compares CPU µs a request of the api with those of a bare Fiber echo, pair by pair.
func BenchmarkAuthenticatedGet(b *testing.B) {
	const n = 20_000
	pg, redis := testenv.Postgres(b), testenv.Redis(b)
	const secret = "a secret of at least thirty-two bytes"
	db, err := sql.Open("pgx", pg)
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	user := testenv.User(b, db)
	token, err := auth.NewTokens([][]byte{[]byte(secret)}, time.Hour).Issue(user, id.New())
	if err != nil {
		b.Fatal(err)
	}
	addr := fmt.Sprintf("127.0.0.1:%d", testenv.FreePort(b))
	api := testenv.Start(b, testenv.ReleaseBinary(b, "api"), nil, []string{
		"PARLEY_DATABASE_URL=" + pg, "PARLEY_REDIS_URL=" + redis.URL(), "PARLEY_JWT_SECRET=" + secret, "PARLEY_RATE_LIMIT_DEFAULT=1000000/1s",
		"PARLEY_HTTP_ADDR=" + addr, fmt.Sprintf("PARLEY_OPS_ADDR=127.0.0.1:%d", testenv.FreePort(b)),
	})
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	echoAddr := fmt.Sprintf("127.0.0.1:%d", testenv.FreePort(b))
	echo := testenv.Start(b, self, nil, []string{echoVar + "=" + echoAddr})
	for _, a := range []string{addr, echoAddr} {
		testenv.Eventually(b, 10*time.Second, func() bool {
			c, err := net.Dial("tcp", a)
			if err == nil {
				_ = c.Close()
			}
			return err == nil
		}, "%s is served", a)
	}
	load(b, addr, token, 2000)
	load(b, echoAddr, token, 2000)
	var ours, bare float64
	b.ResetTimer()
	for range b.N {
		from := meter.CPU(api.PID())
		load(b, addr, token, n)
		ours += meter.CPU(api.PID()) - from
		from = meter.CPU(echo.PID())
		load(b, echoAddr, token, n)
		bare += meter.CPU(echo.PID()) - from
	}
	b.ReportMetric(ours/float64(b.N)/n*1e6, "api-CPU-µs/req")
	b.ReportMetric(bare/float64(b.N)/n*1e6, "echo-CPU-µs/req")
	b.ReportMetric(ours/bare, "ratio")
}

// guards is how many requests at once BenchmarkGuard's crowd is, and pool the connections that the api has.
const guards, pool = 64, 20

// BenchmarkGuard is one limit taken from Redis, alone and in a crowd, and from memory.
func BenchmarkGuard(b *testing.B) {
	redisconn.LogTo(slog.New(slog.DiscardHandler)) // each dial that fails
	redis := testenv.Redis(b)
	for _, c := range []struct {
		name, url string
		crowd     bool
	}{
		{"redis", redis.URL(), false},
		{"redis-crowd", redis.URL(), true},
		{"memory", "redis://127.0.0.1:1", false},
	} {
		b.Run(c.name, func(b *testing.B) {
			rdb, err := redisconn.Open(redisconn.Config{URL: c.url, PoolSize: pool})
			if err != nil {
				b.Fatal(err)
			}
			defer rdb.Close()
			l := ratelimit.New(rdb, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			go func() { _ = l.Run(ctx) }()
			t := ratelimit.Take{Rule: "bench", Subject: "someone", Rate: config.Rate{Count: 1_000_000, Window: time.Second}}
			l.Allow(context.Background(), t)
			before, used := commands(b, redis), meter.CPU(redis.PID())
			b.ReportAllocs()
			b.ResetTimer()
			if c.crowd {
				b.SetParallelism(max(guards/runtime.GOMAXPROCS(0), 1))
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						l.Allow(context.Background(), t)
					}
				})
			} else {
				for range b.N {
					l.Allow(context.Background(), t)
				}
			}
			b.ReportMetric(float64(commands(b, redis)-before)/float64(b.N), "redis-commands/op")
			b.ReportMetric((meter.CPU(redis.PID())-used)/float64(b.N)*1e6, "redis-CPU-µs/op")
		})
	}
}

// commands is how many EVALSHAs the server was called with.
func commands(b *testing.B, r *testenv.RedisServer) int {
	b.Helper()
	info, err := r.Client(b).Info(context.Background(), "commandstats").Result()
	if err != nil {
		b.Fatal(err)
	}
	n := 0
	for _, line := range strings.Split(info, "\n") {
		if rest, ok := strings.CutPrefix(line, "cmdstat_evalsha:calls="); ok {
			n, _ = strconv.Atoi(strings.SplitN(rest, ",", 2)[0])
		}
	}
	return n
}
