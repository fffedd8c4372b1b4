package config

import (
	"net/netip"
	"slices"
	"time"
)

// everySetting are those that only one of the processes reads: one file may serve them all.
var everySetting = slices.Concat(storageSettings, webhookSettings, pushSettings, []string{
	"CONFIG", "HTTP_ADDR", "DATABASE_MAX_CONNS", "JWT_SECRET", "ACCESS_TOKEN_TTL", "REFRESH_TOKEN_TTL", "REFRESH_REUSE_GRACE", "SESSION_MAX_AGE",
	"TRUSTED_PROXIES", "ALLOWED_ORIGINS", "METRICS_TOKEN", "PRESENCE_TTL", "PRESENCE_GRACE", "RECEIPT_FLUSH_INTERVAL", "DRAIN_DELAY",
	"RATE_LIMIT_DEFAULT", "RATE_LIMIT_AUTH", "RATE_LIMIT_SEARCH", "RATE_LIMIT_SEND", "RATE_LIMIT_SOCKET", "RATE_LIMIT_FRAMES",
	"RATE_LIMIT_REFRESH", "RATE_LIMIT_SERVER", "RATE_LIMIT_UPLOAD", "RATE_LIMIT_REACT", "RATE_LIMIT_SYNC",
	"FORWARDED_HEADER", "CONNECTIONS_PER_ADDRESS", "DOCS", "MARKERS_MAX_MEMBERS",
	"AUTH_MODE", "AUTH_JWKS_URL", "AUTH_JWKS_FILE", "AUTH_ISSUER", "AUTH_AUDIENCE", "AUTH_ALGORITHMS", "AUTH_CLAIM_USER",
	"AUTH_CLAIM_USERNAME", "AUTH_CLAIM_NAME", "AUTH_CLAIM_AVATAR", "AUTH_PROVISION", "AUTH_PROFILE", "AUTH_JWKS_REFRESH", "AUTH_JWKS_MAX_STALE",
	"AUTH_MAX_TTL", "BOOTSTRAP_KEY", "AUDIT_KEEP",
})

// API are the settings of the api.
type API struct {
	Common
	HTTPAddr     string
	JWTSecrets   [][]byte
	AccessTTL    time.Duration
	RefreshTTL   time.Duration
	RefreshGrace time.Duration
	// SessionMaxAge is how long a session lives at most, however often it is refreshed.
	SessionMaxAge  time.Duration
	TrustedProxies []netip.Prefix
	// ForwardedHeader is the header that trusted proxies name clients in: ForwardedFor or ForwardedRFC.
	ForwardedHeader string
	// ConnectionsPerAddress bounds the connections of one client address that are no sockets; 0 is no bound.
	ConnectionsPerAddress int
	// MarkersMaxMembers is the largest conversation whose read markers are published to the members' sockets; 0 for none.
	MarkersMaxMembers int
	AllowedOrigins    []string
	MetricsTokens     []string
	// Docs is whether /api/docs is served.
	Docs bool
	// Web is whether the page is served at /.
	Web        bool
	DrainDelay time.Duration
	Limits     Limits
	Presence   Presence
	Storage    Storage
	Uploads    Uploads
	Identity   Identity
	// BootstrapKey is a server key that the api makes when it starts, "" for none.
	BootstrapKey string
	Webhooks     Webhooks
	Push         Push
	// AuditKeep is how long entries of the audit log are kept.
	AuditKeep time.Duration
}

// Headers that trusted proxies may name clients in, as the setting PARLEY_FORWARDED_HEADER has them.
const (
	ForwardedFor = "x-forwarded-for"
	ForwardedRFC = "forwarded" // RFC 7239
)

// Limits are the rate limits. Server counts by key, Sync counts the requested conversations.
type Limits struct {
	Default, Auth, Refresh, Search, Send, React, Upload, Sync, Server, Socket, Frames Rate
}

// Presence is how long a device counts as online after its last renewal (TTL), and after its last socket closed (Grace).
type Presence struct {
	TTL, Grace time.Duration
}

// Watcher are the settings of the presence-watcher.
type Watcher struct {
	Common
	Presence Presence
}

// Worker are the settings of the receipt-worker.
type Worker struct {
	Common
	FlushInterval time.Duration
	Storage       Storage
	Sweep         Sweep
}

// LoadAPI reads and checks the api's settings.
func LoadAPI() (API, error) {
	r := newReader()
	c := API{
		Common:                r.common(),
		HTTPAddr:              r.text("HTTP_ADDR", ":8080"),
		JWTSecrets:            r.secrets("JWT_SECRET"),
		AccessTTL:             r.duration("ACCESS_TOKEN_TTL", 15*time.Minute, time.Second),
		RefreshTTL:            r.duration("REFRESH_TOKEN_TTL", 720*time.Hour, time.Second),
		RefreshGrace:          r.duration("REFRESH_REUSE_GRACE", 10*time.Second, 0),
		SessionMaxAge:         r.duration("SESSION_MAX_AGE", 2160*time.Hour, time.Second),
		TrustedProxies:        r.prefixes("TRUSTED_PROXIES"),
		ForwardedHeader:       r.choice("FORWARDED_HEADER", ForwardedFor, ForwardedFor, ForwardedRFC),
		ConnectionsPerAddress: r.bound("CONNECTIONS_PER_ADDRESS", 1000),
		MarkersMaxMembers:     r.bound("MARKERS_MAX_MEMBERS", 100),
		Docs:                  r.choice("DOCS", "on", "on", "off") == "on",
		Web:                   r.choice("WEB", "off", "on", "off") == "on",
		AllowedOrigins:        r.origins("ALLOWED_ORIGINS"),
		MetricsTokens:         r.tokens("METRICS_TOKEN"),
		DrainDelay:            r.duration("DRAIN_DELAY", 0, 0),
		Limits:                r.limits(),
		Presence:              r.presence(),
		Storage:               r.storage(),
		Uploads:               r.uploads(),
		Identity:              r.identity(),
		BootstrapKey:          r.serverKey("BOOTSTRAP_KEY"),
		Webhooks:              r.webhooks(),
		Push:                  r.push(),
		AuditKeep:             r.duration("AUDIT_KEEP", 400*24*time.Hour, time.Hour),
	}
	if c.DrainDelay >= c.ShutdownTimeout {
		r.fault("DRAIN_DELAY", "must be shorter than %sSHUTDOWN_TIMEOUT", prefix)
	}
	if c.Web && c.Identity.Mode == AuthExternal {
		r.fault("WEB", "must be off with %sAUTH_MODE=%s: the page signs in with passwords of Parley's own", prefix, AuthExternal)
	}
	return c, r.finish()
}

// LoadMigrate reads and checks the settings for migrations: the database's.
func LoadMigrate() (Database, error) {
	r := newReader()
	return r.database(), r.finish()
}

// LoadWatcher reads and checks the presence-watcher's settings.
func LoadWatcher() (Watcher, error) {
	r := newReader()
	return Watcher{Common: r.common(), Presence: r.presence()}, r.finish()
}

// LoadWorker reads and checks the receipt-worker's settings.
func LoadWorker() (Worker, error) {
	r := newReader()
	c := Worker{
		Common: r.common(), FlushInterval: r.duration("RECEIPT_FLUSH_INTERVAL", 10*time.Second, time.Second),
		Storage: r.storage(), Sweep: r.sweep(),
	}
	return c, r.finish()
}

func (r *reader) presence() Presence {
	p := Presence{
		TTL:   r.duration("PRESENCE_TTL", 45*time.Second, time.Second),
		Grace: r.duration("PRESENCE_GRACE", 5*time.Second, 0),
	}
	if p.Grace >= p.TTL {
		r.fault("PRESENCE_GRACE", "must be shorter than %sPRESENCE_TTL", prefix)
	}
	return p
}
