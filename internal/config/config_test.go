package config_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/config"
)

const secret = "0123456789abcdef0123456789abcdef"

func set(t *testing.T, env map[string]string) {
	t.Helper()
	for _, kv := range os.Environ() {
		if k, _, _ := strings.Cut(kv, "="); strings.HasPrefix(k, "PARLEY_") {
			t.Setenv(k, "")
		}
	}
	for k, v := range env {
		t.Setenv("PARLEY_"+k, v)
	}
}

func least() map[string]string {
	return map[string]string{"DATABASE_URL": "postgres://u:p@db/parley", "REDIS_URL": "redis://r", "JWT_SECRET": secret}
}

func TestDefaultsAreTheContracts(t *testing.T) {
	set(t, least())
	c, err := config.LoadAPI()
	if err != nil {
		t.Fatal(err)
	}
	if c.HTTPAddr != ":8080" || c.OpsAddr != ":9090" || c.AccessTTL != 15*time.Minute || c.RefreshTTL != 720*time.Hour ||
		c.RefreshGrace != 10*time.Second || c.ShutdownTimeout != 25*time.Second || c.DrainDelay != 0 || c.LogLevel != slog.LevelInfo ||
		c.LogFormat != "json" || c.Presence != (config.Presence{TTL: 45 * time.Second, Grace: 5 * time.Second}) || c.Database.PgBouncer {
		t.Errorf("defaults are %+v", c)
	}
	if c.Limits.Auth != (config.Rate{Count: 5, Window: 15 * time.Minute}) || c.Limits.Frames != (config.Rate{Count: 50, Window: time.Second}) {
		t.Errorf("limits are %+v", c.Limits)
	}
	if c.Database.MigrateURL != c.Database.URL {
		t.Errorf("migrations go to %q", c.Database.MigrateURL)
	}
}

func TestTokensOfTheMetrics(t *testing.T) {
	for value, want := range map[string][]string{"": nil, "one": {"one"}, "let me see": {"let me see"}, "old, new": {"old", "new"}} {
		vars := least()
		vars["METRICS_TOKEN"] = value
		set(t, vars)
		if c, err := config.LoadAPI(); err != nil || !slices.Equal(c.MetricsTokens, want) {
			t.Errorf("%q gives %q: %v, want %q", value, c.MetricsTokens, err, want)
		}
	}
	// An empty token would open the metrics to all, and a list of none would require no token.
	for value, number := range map[string]string{",": "number 1", "hunter2,": "number 2", "hunter2,,new": "number 2"} {
		vars := least()
		vars["METRICS_TOKEN"] = value
		set(t, vars)
		_, err := config.LoadAPI()
		if !config.IsFault(err) || !strings.Contains(err.Error(), "PARLEY_METRICS_TOKEN ") || !strings.Contains(err.Error(), number) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v, want a fault that names %s", value, err, number)
		}
	}
}

func TestEveryFaultIsInOneMessageAndNoSecretIs(t *testing.T) {
	set(t, map[string]string{
		"DATABASE_URL": "mysql://u:hunter2@db/x", "JWT_SECRET": "tooshortsecret", "ACCESS_TOKEN_TTL": "soon", "RATE_LIMIT_SEND": "many",
		"TRUSTED_PROXIES": "10.0.0.0/8,nowhere", "ALLOWED_ORIGINS": "chat.example.com", "LOG_LEVEL": "loud", "DATABASE_MODE": "x",
		"PRESENCE_GRACE": "50s", "DRAIN_DELAY": "30s",
	})
	_, err := config.LoadAPI()
	if !config.IsFault(err) {
		t.Fatal(err)
	}
	for _, want := range []string{
		"DATABASE_URL", "REDIS_URL", "JWT_SECRET", "ACCESS_TOKEN_TTL", "RATE_LIMIT_SEND", "TRUSTED_PROXIES", "ALLOWED_ORIGINS", "LOG_LEVEL",
		"DATABASE_MODE", "PRESENCE_GRACE", "DRAIN_DELAY",
	} {
		if !strings.Contains(err.Error(), "PARLEY_"+want+" ") {
			t.Errorf("%s is not reported in %v", want, err)
		}
	}
	for _, s := range []string{"hunter2", "tooshortsecret"} {
		if strings.Contains(err.Error(), s) {
			t.Errorf("%q is shown in %v", s, err)
		}
	}
}

func TestPartsTakeAnyPassword(t *testing.T) {
	env := least()
	delete(env, "DATABASE_URL")
	env["DATABASE_HOST"], env["DATABASE_PASSWORD"], env["DATABASE_SSLMODE"] = "db", "p@ss#/?:%", "disable"
	set(t, env)
	c, err := config.LoadAPI()
	if err != nil {
		t.Fatal(err)
	}
	if want := "postgres://parley:p%40ss%23%2F%3F%3A%25@db:5432/parley?sslmode=disable"; c.Database.URL != want {
		t.Errorf("the URL is %s, want %s", c.Database.URL, want)
	}
}

func TestAFileServesAllProcessesAndTheEnvironmentWins(t *testing.T) {
	file := filepath.Join(t.TempDir(), "parley.yaml")
	write := func(s string) {
		if err := os.WriteFile(file, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("database_url: postgres://file/x\nredis_url: redis://file\njwt_secret: " + secret + "\nreceipt_flush_interval: 3s\nhttp_addr: \":1\"\n")
	set(t, map[string]string{"CONFIG": file, "REDIS_URL": "redis://environment"})
	c, err := config.LoadAPI()
	if err != nil || c.HTTPAddr != ":1" || c.Redis.URL != "redis://environment" {
		t.Errorf("api: %+v, %v", c, err)
	}
	w, err := config.LoadWorker()
	if err != nil || w.FlushInterval != 3*time.Second {
		t.Errorf("worker: %+v, %v", w, err)
	}
	write("database_ulr: postgres://file/x\n")
	if _, err := config.LoadWatcher(); err == nil || !strings.Contains(err.Error(), "DATABASE_ULR is no setting") {
		t.Errorf("a key with a typing error: %v", err)
	}
}

func TestRatesCanBeOff(t *testing.T) {
	env := least()
	env["RATE_LIMIT_AUTH"], env["RATE_LIMIT_SEND"] = "off", "7/30s"
	set(t, env)
	c, err := config.LoadAPI()
	if err != nil || !c.Limits.Auth.Off() || c.Limits.Send.String() != "7/30s" {
		t.Errorf("%+v, %v", c.Limits, err)
	}
}

func TestTheEdgesBounds(t *testing.T) {
	set(t, least())
	c, err := config.LoadAPI()
	if err != nil || !c.Docs || c.Web || c.ConnectionsPerAddress != 1000 || c.ForwardedHeader != config.ForwardedFor || c.Limits.Refresh.String() != "30/15m0s" {
		t.Errorf("%+v, %v", c, err)
	}
	env := least()
	env["DOCS"], env["WEB"], env["CONNECTIONS_PER_ADDRESS"], env["FORWARDED_HEADER"] = "off", "on", "off", "forwarded"
	set(t, env)
	if c, err = config.LoadAPI(); err != nil || c.Docs || !c.Web || c.ConnectionsPerAddress != 0 || c.ForwardedHeader != config.ForwardedRFC {
		t.Errorf("%+v, %v", c, err)
	}
	env["DOCS"], env["WEB"], env["CONNECTIONS_PER_ADDRESS"], env["FORWARDED_HEADER"] = "perhaps", "perhaps", "0", "x-real-ip"
	set(t, env)
	_, err = config.LoadAPI()
	for _, name := range []string{"DOCS", "WEB", "CONNECTIONS_PER_ADDRESS", "FORWARDED_HEADER"} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s is not among the faults: %v", name, err)
		}
	}
}

func TestMigratingNeedsTheDatabaseAlone(t *testing.T) {
	set(t, map[string]string{"DATABASE_URL": "postgres://db/x", "MIGRATE_DATABASE_URL": "postgres://direct/x"})
	d, err := config.LoadMigrate()
	if err != nil || d.MigrateURL != "postgres://direct/x" {
		t.Errorf("%+v, %v", d, err)
	}
}

func TestStorageIsCheckedAsAWhole(t *testing.T) {
	set(t, least())
	c, err := config.LoadAPI()
	if err != nil || c.Storage.Configured() || c.Uploads.MaxSize != 25<<20 || c.Uploads.DenyTypes != nil || len(c.Uploads.Types) != 1 {
		t.Errorf("without settings: %+v, %+v, %v", c.Storage, c.Uploads, err)
	}
	w, err := config.LoadWorker()
	if err != nil || w.Sweep != (config.Sweep{UnsentTTL: 24 * time.Hour, Interval: 15 * time.Minute}) {
		t.Errorf("the worker's: %+v, %v", w.Sweep, err)
	}
	env := least()
	for k, v := range map[string]string{
		"S3_ENDPOINT": "http://s3.local:9000/", "S3_BUCKET": "b", "S3_PATH_STYLE": "true", "S3_ACCESS_KEY": "a", "S3_SECRET_KEY": "s",
		"UPLOAD_MAX_SIZE": "1.5 MB", "UPLOAD_TYPES": "Image/*, text/plain", "UPLOAD_DENY_TYPES": "none",
	} {
		env[k] = v
	}
	set(t, env)
	c, err = config.LoadAPI()
	if err != nil || c.Storage.Endpoint != "http://s3.local:9000" || c.Storage.PublicEndpoint != c.Storage.Endpoint || !c.Storage.PathStyle ||
		c.Uploads.MaxSize != 1_500_000 || strings.Join(c.Uploads.Types, " ") != "image/* text/plain" || len(c.Uploads.DenyTypes) != 0 {
		t.Errorf("with settings: %+v, %+v, %v", c.Storage, c.Uploads, err)
	}
	for name, bad := range map[string]map[string]string{
		"S3_ENDPOINT":        {"S3_ENDPOINT": "s3.local:9000", "S3_BUCKET": "b"},
		"S3_BUCKET":          {"S3_ENDPOINT": "http://s3.local"},
		"S3_ACCESS_KEY":      {"S3_ENDPOINT": "http://s3.local", "S3_BUCKET": "b", "S3_SECRET_KEY": "s"},
		"S3_PUBLIC_ENDPOINT": {"S3_ENDPOINT": "http://s3.local", "S3_BUCKET": "b", "S3_PUBLIC_ENDPOINT": "https://files.local/parley"},
		"UPLOAD_MAX_SIZE":    {"UPLOAD_MAX_SIZE": "6GiB"},
		"UPLOAD_TYPES":       {"UPLOAD_TYPES": "png"},
		"UPLOAD_DENY_TYPES":  {"UPLOAD_DENY_TYPES": "text/html; charset=x"},
	} {
		env := least()
		for k, v := range bad {
			env[k] = v
		}
		set(t, env)
		if _, err := config.LoadAPI(); !config.IsFault(err) || !strings.Contains(err.Error(), "PARLEY_"+name+" ") {
			t.Errorf("%v: %v", bad, err)
		}
	}
}

func TestEveryFaultOfExternalIdentityIsInOneMessage(t *testing.T) {
	env := least()
	for k, v := range map[string]string{
		"AUTH_MODE": "external", "AUTH_ALGORITHMS": "RS256,none,HS256", "AUTH_JWKS_URL": "http://id.example.com/jwks", "AUTH_JWKS_FILE": "/x",
		"AUTH_PROVISION": "maybe", "AUTH_PROFILE": "never", "AUTH_MAX_TTL": "soon", "AUTH_JWKS_MAX_STALE": "1m", "BOOTSTRAP_KEY": "parley_sk_hunter2", "AUDIT_KEEP": "1s",
	} {
		env[k] = v
	}
	set(t, env)
	_, err := config.LoadAPI()
	if !config.IsFault(err) {
		t.Fatal(err)
	}
	for _, want := range []string{
		"AUTH_ALGORITHMS", "AUTH_JWKS_URL", "AUTH_JWKS_FILE", "AUTH_ISSUER", "AUTH_AUDIENCE", "AUTH_PROVISION", "AUTH_PROFILE", "AUTH_MAX_TTL",
		"AUTH_JWKS_MAX_STALE", "BOOTSTRAP_KEY", "AUDIT_KEEP",
	} {
		if !strings.Contains(err.Error(), "PARLEY_"+want+" ") {
			t.Errorf("%s is missing in %v", want, err)
		}
	}
	if strings.Contains(err.Error(), "hunter2") {
		t.Errorf("a secret is shown in %v", err)
	}
}

func TestTheKeySetsAddress(t *testing.T) {
	for url, ok := range map[string]bool{
		"https://id.example.com/jwks": true, "http://127.0.0.1:1/jwks": true, "http://localhost/jwks": true, "http://[::1]/jwks": true, "http://id.auth.svc/jwks": true,
		"http://id.auth.svc.cluster.local/jwks": true, "http://10.0.0.1/jwks": false, "http://svc/jwks": false, "ftp://x/jwks": false, "https://u:p@x/jwks": false, "jwks": false,
	} {
		env := least()
		env["AUTH_MODE"], env["AUTH_JWKS_URL"], env["AUTH_ISSUER"], env["AUTH_AUDIENCE"] = "both", url, "https://id.example.com", "a, b"
		set(t, env)
		c, err := config.LoadAPI()
		if (err == nil) != ok {
			t.Errorf("%s: %v", url, err)
		}
		if err == nil && (len(c.Identity.Audience) != 2 || len(c.Identity.Algorithms) != 4 || c.Identity.ClaimUser != "sub" || c.Identity.MaxTTL != 24*time.Hour) {
			t.Errorf("%+v", c.Identity)
		}
	}
}

func TestPushIsChecked(t *testing.T) {
	key, account := strings.Repeat("A", 42)+"E", `{"project_id":"p","client_email":"a@b","token_uri":"https://oauth2.googleapis.com/token","private_key":"none"}`
	for _, c := range []struct {
		env   map[string]string
		wrong []string
	}{
		{map[string]string{}, nil},
		{map[string]string{"PUSH_VAPID_PRIVATE_KEY": key, "PUSH_VAPID_SUBJECT": "mailto:a@b", "PUSH_WEBPUSH_HOSTS": "push.example, *.push.example,127.0.0.1", "PUSH_DELAY": "1s"}, nil},
		{map[string]string{"PUSH_VAPID_PRIVATE_KEY": key}, []string{"PUSH_VAPID_SUBJECT"}},
		{map[string]string{"PUSH_VAPID_PRIVATE_KEY": "hunter2", "PUSH_VAPID_SUBJECT": "a@b", "PUSH_WEBPUSH_HOSTS": "https://push.example/", "PUSH_FCM_CREDENTIALS": "hunter2",
			"PUSH_FCM_ENDPOINT": "fcm", "PUSH_DELAY": "soon", "PUSH_CONTENT": "some"},
			[]string{"PUSH_VAPID_PRIVATE_KEY", "PUSH_VAPID_SUBJECT", "PUSH_WEBPUSH_HOSTS", "PUSH_FCM_CREDENTIALS", "PUSH_FCM_ENDPOINT", "PUSH_DELAY", "PUSH_CONTENT"}},
		{map[string]string{"PUSH_WEBPUSH_HOSTS": "push.example:443"}, []string{"PUSH_WEBPUSH_HOSTS"}},
		{map[string]string{"PUSH_FCM_CREDENTIALS": account}, []string{"PUSH_FCM_CREDENTIALS"}},
	} {
		env := least()
		for k, v := range c.env {
			env[k] = v
		}
		set(t, env)
		got, err := config.LoadAPI()
		if (err == nil) != (c.wrong == nil) {
			t.Errorf("%v: %v", c.env, err)
			continue
		}
		for _, want := range c.wrong {
			if !strings.Contains(err.Error(), "PARLEY_"+want+" ") {
				t.Errorf("%s is missing in %v", want, err)
			}
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("a secret is shown in %v", err)
		}
		if err == nil && len(c.env) == 0 && (got.Push.Delay != 5*time.Second || got.Push.FCM != nil || got.Push.FCMEndpoint != "https://fcm.googleapis.com") {
			t.Errorf("the defaults are %+v", got.Push)
		}
	}
}
