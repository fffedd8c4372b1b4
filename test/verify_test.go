package test

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/testenv"
)

// What the chart runs before it installs anything.
func TestVerify(t *testing.T) {
	t.Parallel()
	postgres := testenv.PostgresServer(t)
	redis := testenv.Redis(t)
	if err := redis.Client(t).ConfigSet(t.Context(), "requirepass", "open-sesame").Err(); err != nil {
		t.Fatal(err)
	}
	away := fmt.Sprintf("127.0.0.1:%d", testenv.FreePort(t))
	right := map[string]string{
		"PARLEY_DATABASE_URL": postgres.URL(), "PARLEY_REDIS_URL": redis.URL(), "PARLEY_REDIS_PASSWORD": "open-sesame",
		"PARLEY_JWT_SECRET": "0123456789abcdef0123456789abcdef",
	}
	stranger, err := url.Parse(postgres.URL())
	if err != nil {
		t.Fatal(err)
	}
	stranger.User = url.UserPassword("nobody", "a-secret")
	for name, x := range map[string]struct {
		wrong map[string]string
		code  int
		shown []string
		args  []string
	}{
		"all is right":      {nil, 0, []string{`"postgres"`, `"redis"`}, nil},
		"no postgres":       {map[string]string{"PARLEY_DATABASE_URL": "postgres://" + away + "/x"}, 3, []string{"postgres cannot be reached", "redis\""}, nil},
		"no redis":          {map[string]string{"PARLEY_REDIS_URL": "redis://" + away}, 3, []string{"redis cannot be reached", "postgres\""}, []string{"-wait", "2s"}},
		"no such host":      {map[string]string{"PARLEY_REDIS_URL": "redis://redis.invalid:6379"}, 3, []string{"redis cannot be reached"}, nil},
		"nothing runs yet":  {map[string]string{"PARLEY_DATABASE_URL": "postgres://" + away + "/x", "PARLEY_REDIS_URL": "redis://" + away}, 0, []string{"cannot be reached yet"}, []string{"-unreachable=warn"}},
		"no sentinels":      {map[string]string{"PARLEY_REDIS_SENTINEL_MASTER": "parley"}, 2, []string{"PARLEY_REDIS_URL", "sentinels"}, nil},
		"one of each":       {map[string]string{"PARLEY_DATABASE_URL": "postgres://" + away + "/x", "PARLEY_REDIS_PASSWORD": "a-secret"}, 2, []string{"postgres cannot be reached", "WRONGPASS"}, nil},
		"a short secret":    {map[string]string{"PARLEY_JWT_SECRET": "a-secret"}, 2, []string{"PARLEY_JWT_SECRET"}, nil},
		"no password":       {map[string]string{"PARLEY_REDIS_PASSWORD": ""}, 2, []string{"PARLEY_REDIS_URL", "NOAUTH"}, nil},
		"two wrong secrets": {map[string]string{"PARLEY_DATABASE_URL": stranger.String(), "PARLEY_REDIS_PASSWORD": "a-secret"}, 2, []string{"PARLEY_DATABASE_URL", `role "nobody" does not exist`, "PARLEY_REDIS_URL", "WRONGPASS"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			settings := maps.Clone(right)
			maps.Copy(settings, x.wrong)
			expectVerified(t, settings, x.args, x.code, x.shown)
		})
	}
}

// expectVerified runs the api's verify, which must exit with the code and show the texts, but no secret.
func expectVerified(t *testing.T, settings map[string]string, args []string, code int, shown []string) {
	t.Helper()
	var env []string
	for k, v := range settings {
		env = append(env, k+"="+v)
	}
	p := testenv.Start(t, testenv.Binary(t, "api"), append([]string{"verify"}, args...), env)
	expectExit(t, p, code, time.Minute)
	logs := p.Logs()
	if strings.Contains(logs, "a-secret") {
		t.Errorf("it shows a secret: %s", logs)
	}
	expectContains(t, "verify", logs, shown...)
}

// What helm test runs fails if a dependency is unavailable, although people can chat without Redis.
func TestCheckAsksReadiness(t *testing.T) {
	t.Parallel()
	s := &system{t: t, pg: testenv.PostgresServer(t).URL(), redis: testenv.NewRedis(t)}
	s.addPod()
	check := func() (int, string) {
		p := testenv.Start(t, testenv.Binary(t, "api"), []string{"check", s.pods[0].url}, nil)
		return p.Wait(2 * time.Minute), p.Logs()
	}
	if code, logs := check(); code != 0 {
		t.Fatalf("exit code %d: %s", code, logs)
	}
	s.redis.Stop()
	if code, logs := check(); code != 1 || !strings.Contains(logs, "degraded: redis is down") {
		t.Errorf("without Redis: exit code %d: %s", code, logs)
	}
	s.redis.Start()
	testenv.Eventually(t, time.Minute, func() bool { code, _ := check(); return code == 0 }, "the check succeeds once Redis is back")
}

// The bucket for files is tried out too, if the settings name one.
func TestVerifyTriesTheStorage(t *testing.T) {
	t.Parallel()
	storage := testenv.Storage(t)
	base := append(storage.Settings(), "PARLEY_DATABASE_URL="+testenv.Postgres(t), "PARLEY_REDIS_URL="+testenv.Redis(t).URL(),
		"PARLEY_JWT_SECRET=0123456789abcdef0123456789abcdef", "PARLEY_ALLOWED_ORIGINS=https://chat.example.com,http://localhost:*")
	verify := func(env ...string) (int, string) {
		t.Helper()
		p := testenv.Start(t, testenv.Binary(t, "api"), []string{"verify"}, append(slices.Clone(base), env...))
		return p.Wait(time.Minute), p.Logs()
	}
	for name, x := range map[string]struct {
		env  string
		code int
		want string
	}{
		"all is right":   {"PARLEY_S3_REGION=us-east-1", 0, `"storage"`},
		"a wrong secret": {"PARLEY_S3_SECRET_KEY=another", 2, "PARLEY_S3_BUCKET"},
		"another bucket": {"PARLEY_S3_BUCKET=nowhere", 2, "PARLEY_S3_BUCKET"},
		"away":           {"PARLEY_S3_ENDPOINT=http://127.0.0.1:1", 3, "storage cannot be reached"},
	} {
		if code, logs := verify(x.env); code != x.code || !strings.Contains(logs, x.want) {
			t.Errorf("%s: exit code %d: %s", name, code, logs)
		}
	}
	storage.NoCORS = true
	storage.Stop()
	storage.Start()
	if code, logs := verify(); code != 2 || !strings.Contains(logs, "https://chat.example.com") || !strings.Contains(logs, "http://localhost:3000") {
		t.Errorf("without CORS: exit code %d: %s", code, logs)
	}
	storage.Public(t)
	if code, logs := verify("PARLEY_ALLOWED_ORIGINS="); code != 2 || !strings.Contains(logs, "is public") {
		t.Errorf("a public bucket: exit code %d: %s", code, logs)
	}
}
