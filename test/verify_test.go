package test

import (
	"fmt"
	"net/url"
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
		told  []string
	}{
		"all is right":      {nil, 0, []string{`"postgres"`, `"redis"`}},
		"nothing runs yet":  {map[string]string{"PARLEY_DATABASE_URL": "postgres://" + away + "/x", "PARLEY_REDIS_URL": "redis://" + away}, 0, []string{"cannot be reached yet"}},
		"a short secret":    {map[string]string{"PARLEY_JWT_SECRET": "a-secret"}, 2, []string{"PARLEY_JWT_SECRET"}},
		"no password":       {map[string]string{"PARLEY_REDIS_PASSWORD": ""}, 2, []string{"PARLEY_REDIS_URL", "NOAUTH"}},
		"two wrong secrets": {map[string]string{"PARLEY_DATABASE_URL": stranger.String(), "PARLEY_REDIS_PASSWORD": "a-secret"}, 2, []string{"PARLEY_DATABASE_URL", `role "nobody" does not exist`, "PARLEY_REDIS_URL", "WRONGPASS"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var env []string
			for k, v := range right {
				if w, ok := x.wrong[k]; ok {
					v = w
				}
				env = append(env, k+"="+v)
			}
			p := testenv.Start(t, testenv.Binary(t, "api"), []string{"verify"}, env)
			code, logs := p.Wait(time.Minute), p.Logs()
			if code != x.code || strings.Contains(logs, "a-secret") {
				t.Errorf("exit code %d: %s", code, logs)
			}
			for _, told := range x.told {
				if !strings.Contains(logs, told) {
					t.Errorf("it does not tell %s: %s", told, logs)
				}
			}
		})
	}
}
