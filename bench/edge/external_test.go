package edge

import (
	"database/sql"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/parley-chat/parley/bench/meter"
	"github.com/parley-chat/parley/internal/auth"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/issuer"
	"github.com/parley-chat/parley/internal/testenv"
)

// BenchmarkExternalToken compares CPU µs a request with a token of a product's issuer with those with one of the api's own, pair by pair.
func BenchmarkExternalToken(b *testing.B) {
	const n = 8_000
	const secret = "a secret of at least thirty-two bytes"
	pg, redis := testenv.Postgres(b), testenv.Redis(b)
	db, err := sql.Open("pgx", pg)
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	own, err := auth.NewTokens([][]byte{[]byte(secret)}, time.Hour).Issue(testenv.User(b, db), id.New())
	if err != nil {
		b.Fatal(err)
	}
	product := issuer.New("https://id.example.com", "chat")
	key, err := issuer.NewKey("1", "RS256")
	if err != nil {
		b.Fatal(err)
	}
	product.Publish(key)
	set := httptest.NewServer(product)
	defer set.Close()
	external, err := product.Token("anna", map[string]any{"name": "Anna"})
	if err != nil {
		b.Fatal(err)
	}
	addr := fmt.Sprintf("127.0.0.1:%d", testenv.FreePort(b))
	api := testenv.Start(b, testenv.ReleaseBinary(b, "api"), nil, []string{
		"PARLEY_DATABASE_URL=" + pg, "PARLEY_REDIS_URL=" + redis.URL(), "PARLEY_JWT_SECRET=" + secret, "PARLEY_RATE_LIMIT_DEFAULT=1000000/1s",
		"PARLEY_AUTH_MODE=both", "PARLEY_AUTH_JWKS_URL=" + set.URL, "PARLEY_AUTH_ISSUER=" + product.Name, "PARLEY_AUTH_AUDIENCE=" + product.Audience,
		"PARLEY_HTTP_ADDR=" + addr, fmt.Sprintf("PARLEY_OPS_ADDR=127.0.0.1:%d", testenv.FreePort(b)),
	})
	testenv.Eventually(b, 10*time.Second, func() bool {
		req, err := http.NewRequestWithContext(b.Context(), http.MethodGet, "http://"+addr+"/api/users/me", nil)
		if err != nil {
			return false
		}
		req.Header.Set("Authorization", "Bearer "+external)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return false
		}
		_ = res.Body.Close()
		return res.StatusCode == http.StatusOK
	}, "the api accepts the product's token")
	load(b, addr, own, 1000)
	load(b, addr, external, 1000)
	var with, without float64
	b.ResetTimer()
	for range b.N {
		from := meter.CPU(api.PID())
		load(b, addr, own, n)
		without += meter.CPU(api.PID()) - from
		from = meter.CPU(api.PID())
		load(b, addr, external, n)
		with += meter.CPU(api.PID()) - from
	}
	b.ReportMetric(without/float64(b.N)/n*1e6, "own-CPU-µs/req")
	b.ReportMetric(with/float64(b.N)/n*1e6, "external-CPU-µs/req")
	b.ReportMetric(with/without, "ratio")
}
