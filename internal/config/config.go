// Package config reads the processes' settings from the environment and, if PARLEY_CONFIG names one, from a file, and
// checks all of them before anything starts. A file's keys are the settings' names without PARLEY_, in lower case.
package config

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/viper"
)

const prefix = "PARLEY_"

// Faults are all that is wrong with the settings.
type Faults struct {
	list []string
}

// Error is one message that names every fault. It shows no secret.
func (f *Faults) Error() string {
	return "the settings are wrong:\n  - " + strings.Join(f.list, "\n  - ")
}

// reader reads settings by name and collects their faults.
type reader struct {
	v      *viper.Viper
	known  map[string]bool
	faults Faults
}

func newReader() *reader {
	v := viper.New()
	v.SetEnvPrefix("PARLEY")
	v.AutomaticEnv()
	r := &reader{v: v, known: map[string]bool{}}
	if file := os.Getenv(prefix + "CONFIG"); file != "" {
		v.SetConfigFile(file)
		if err := v.ReadInConfig(); err != nil {
			r.fault("CONFIG", "the file cannot be read: %v", err)
		}
	}
	return r
}

// finish returns all faults as one error. A key of the file that no process knows is a fault too.
func (r *reader) finish() error {
	for _, k := range r.v.AllKeys() {
		if name := strings.ToUpper(k); r.v.InConfig(k) && !r.known[name] && !slices.Contains(everySetting, name) {
			r.fault(name, "is no setting of Parley's")
		}
	}
	if len(r.faults.list) == 0 {
		return nil
	}
	return &r.faults
}

func (r *reader) fault(name, format string, args ...any) {
	r.faults.list = append(r.faults.list, prefix+name+" "+fmt.Sprintf(format, args...))
}

func (r *reader) text(name, def string) string {
	r.known[name] = true
	if s := strings.TrimSpace(r.v.GetString(strings.ToLower(name))); s != "" {
		return s
	}
	return def
}

func (r *reader) required(name string) string {
	s := r.text(name, "")
	if s == "" {
		r.fault(name, "is required")
	}
	return s
}

func (r *reader) choice(name, def string, choices ...string) string {
	s := r.text(name, def)
	if !slices.Contains(choices, s) {
		r.fault(name, "must be one of %s", strings.Join(choices, ", "))
	}
	return s
}

func (r *reader) duration(name string, def, least time.Duration) time.Duration {
	d, err := time.ParseDuration(r.text(name, def.String()))
	if err != nil || d < least {
		r.fault(name, "must be a duration of at least %s, such as %s", least, def)
	}
	return d
}

// bound reads a positive number; off is 0, no bound.
func (r *reader) bound(name string, def int) int {
	s := r.text(name, strconv.Itoa(def))
	if s == "off" {
		return 0
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		r.fault(name, "must be off or a positive number, such as %d", def)
	}
	return n
}

func (r *reader) list(name string) []string {
	var out []string
	for _, s := range strings.Split(r.text(name, ""), ",") {
		if s = strings.TrimSpace(s); s != "" {
			out = append(out, s)
		}
	}
	return out
}

// Common are the settings of every process.
type Common struct {
	OpsAddr         string
	LogLevel        slog.Level
	LogFormat       string
	ShutdownTimeout time.Duration
	Database        Database
	Redis           Redis
	// Tracing is whether spans are exported.
	Tracing bool
}

// Database is how to reach Postgres.
type Database struct {
	URL        string
	MigrateURL string
	PgBouncer  bool
}

// Redis are the settings to reach Redis. Username and Password, if set, replace those in the URL, which are then used for the sentinels.
type Redis struct {
	URL                string
	Username, Password string
	SentinelMaster     string
	// Plain says that a cluster's sharded channels are not used.
	Plain bool
}

func (r *reader) common() Common {
	c := Common{
		OpsAddr:         r.text("OPS_ADDR", ":9090"),
		LogFormat:       r.choice("LOG_FORMAT", "json", "json", "text"),
		ShutdownTimeout: r.duration("SHUTDOWN_TIMEOUT", 25*time.Second, time.Second),
		Database:        r.database(),
		Redis: Redis{
			URL: r.required("REDIS_URL"), SentinelMaster: r.text("REDIS_SENTINEL_MASTER", ""),
			Username: r.text("REDIS_USERNAME", ""), Password: r.text("REDIS_PASSWORD", ""),
			Plain: r.choice("REDIS_PUBSUB", "auto", "auto", "plain") == "plain",
		},
		Tracing: r.tracing(),
	}
	level := r.choice("LOG_LEVEL", "info", "debug", "info", "warn", "error")
	_ = c.LogLevel.UnmarshalText([]byte(level)) // choice has reported a wrong one
	return c
}

func (r *reader) database() Database {
	u := r.text("DATABASE_URL", "")
	if parts := r.databaseParts(); u == "" {
		u = parts
	}
	d := Database{
		URL:        u,
		MigrateURL: r.text("MIGRATE_DATABASE_URL", u),
		PgBouncer:  r.choice("DATABASE_MODE", "direct", "direct", "pgbouncer") == "pgbouncer",
	}
	for name, s := range map[string]string{"DATABASE_URL": d.URL, "MIGRATE_DATABASE_URL": d.MigrateURL} {
		if s == "" {
			continue
		}
		if p, err := url.Parse(s); err != nil || p.Scheme != "postgres" && p.Scheme != "postgresql" {
			r.fault(name, "must be a postgres:// URL")
		}
	}
	if d.URL == "" {
		r.fault("DATABASE_URL", "is required, or %sDATABASE_HOST and the other parts", prefix)
	}
	return d
}

// databaseParts assembles the URL of its parts, so that a password may hold any character.
func (r *reader) databaseParts() string {
	host, port := r.text("DATABASE_HOST", ""), r.text("DATABASE_PORT", "5432")
	name, user := r.text("DATABASE_NAME", "parley"), r.text("DATABASE_USER", "parley")
	password, mode := r.text("DATABASE_PASSWORD", ""), r.text("DATABASE_SSLMODE", "prefer")
	if host == "" {
		return ""
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		r.fault("DATABASE_PORT", "must be a port number")
		port = "5432"
	}
	u := url.URL{Scheme: "postgres", Host: host + ":" + port, Path: "/" + name, User: url.User(user), RawQuery: "sslmode=" + url.QueryEscape(mode)}
	if password != "" {
		u.User = url.UserPassword(user, password)
	}
	return u.String()
}

func (r *reader) prefixes(name string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range r.list(name) {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			a, aerr := netip.ParseAddr(s)
			if aerr != nil {
				r.fault(name, "must hold addresses or CIDRs, which %q is not", s)
				continue
			}
			p = netip.PrefixFrom(a, a.BitLen())
		}
		out = append(out, p.Masked())
	}
	return out
}

// AnyPort is the ending of an origin that matches all ports of its host.
const AnyPort = ":*"

func (r *reader) origins(name string) []string {
	var out []string
	for _, s := range r.list(name) {
		u, err := url.Parse(strings.TrimSuffix(s, AnyPort))
		if s != "*" && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || strings.TrimSuffix(u.Path, "/") != "") {
			r.fault(name, "must hold origins such as https://chat.example.com, which %q is not", s)
			continue
		}
		out = append(out, strings.ToLower(strings.TrimSuffix(s, "/")))
	}
	return out
}

const minSecret = 32

func (r *reader) secrets(name string) [][]byte {
	var out [][]byte
	for i, s := range r.list(name) {
		if len(s) < minSecret {
			r.fault(name, "must have at least %d bytes in each secret; number %d has %d", minSecret, i+1, len(s))
		}
		out = append(out, []byte(s))
	}
	if len(out) == 0 {
		r.fault(name, "is required")
	}
	return out
}

// tokens reads tokens of any length, comma separated. An empty one is a fault, because a request without a token would match it.
func (r *reader) tokens(name string) []string {
	value := r.text(name, "")
	if value == "" {
		return nil
	}
	out := strings.Split(value, ",")
	for i, s := range out {
		if out[i] = strings.TrimSpace(s); out[i] == "" {
			r.fault(name, "must hold tokens, comma separated; number %d is empty", i+1)
		}
	}
	return out
}

// Fault is an error that says that a setting, named without PARLEY_, is wrong.
func Fault(name, format string, args ...any) error {
	var r reader
	r.fault(name, format, args...)
	return &r.faults
}

// IsFault reports whether err means that the settings are wrong.
func IsFault(err error) bool {
	_, ok := errors.AsType[*Faults](err)
	return ok
}
