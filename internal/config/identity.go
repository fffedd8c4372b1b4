package config

import (
	"net"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Whose tokens the api accepts.
const (
	AuthBuiltin  = "builtin"
	AuthExternal = "external"
	AuthBoth     = "both"
)

// The sources of a product user's name and picture, and the ways in which such users are created.
const (
	ProfileSync       = "sync"
	ProfileFirst      = "first"
	ProvisionCreate   = "create"
	ProvisionExisting = "existing"
)

// Identity are the settings for users with tokens of the product's own issuer.
type Identity struct {
	Mode              string
	JWKSURL, JWKSFile string
	Issuer            string
	Audience          []string
	Algorithms        []string

	ClaimUser, ClaimUsername, ClaimName, ClaimAvatar string

	Provision, Profile        string
	Refresh, MaxStale, MaxTTL time.Duration
}

// External reports whether tokens of the product's issuer are accepted.
func (i Identity) External() bool { return i.Mode != AuthBuiltin }

// ownIssuer is the issuer of the api's own tokens.
const ownIssuer = "parley"

var signatures = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}

func (r *reader) identity() Identity {
	i := Identity{
		Mode:          r.choice("AUTH_MODE", AuthBuiltin, AuthBuiltin, AuthExternal, AuthBoth),
		JWKSURL:       r.text("AUTH_JWKS_URL", ""),
		JWKSFile:      r.text("AUTH_JWKS_FILE", ""),
		Issuer:        r.text("AUTH_ISSUER", ""),
		Audience:      r.list("AUTH_AUDIENCE"),
		Algorithms:    r.list("AUTH_ALGORITHMS"),
		ClaimUser:     r.text("AUTH_CLAIM_USER", "sub"),
		ClaimUsername: r.text("AUTH_CLAIM_USERNAME", ""),
		ClaimName:     r.text("AUTH_CLAIM_NAME", "name"),
		ClaimAvatar:   r.text("AUTH_CLAIM_AVATAR", "picture"),
		Provision:     r.choice("AUTH_PROVISION", ProvisionCreate, ProvisionCreate, ProvisionExisting),
		Profile:       r.choice("AUTH_PROFILE", ProfileSync, ProfileSync, ProfileFirst),
		Refresh:       r.duration("AUTH_JWKS_REFRESH", 5*time.Minute, time.Second),
		MaxStale:      r.duration("AUTH_JWKS_MAX_STALE", 24*time.Hour, time.Second),
		MaxTTL:        r.duration("AUTH_MAX_TTL", 24*time.Hour, time.Second),
	}
	if len(i.Algorithms) == 0 {
		i.Algorithms = []string{"RS256", "PS256", "ES256", "EdDSA"}
	}
	for _, a := range i.Algorithms {
		if !slices.Contains(signatures, a) {
			r.fault("AUTH_ALGORITHMS", "must be among %s, which %q is not", strings.Join(signatures, ", "), a)
		}
	}
	if i.JWKSURL != "" && i.JWKSFile != "" {
		r.fault("AUTH_JWKS_FILE", "must not be given together with %sAUTH_JWKS_URL", prefix)
	}
	if i.JWKSURL != "" {
		r.jwksURL(i.JWKSURL)
	}
	if i.Issuer == ownIssuer {
		r.fault("AUTH_ISSUER", "must not be %s, which is the api's own", ownIssuer)
	}
	if i.MaxStale < i.Refresh {
		r.fault("AUTH_JWKS_MAX_STALE", "must be at least %sAUTH_JWKS_REFRESH", prefix)
	}
	if i.External() {
		r.requireIssuer(i)
	}
	return i
}

// requireIssuer adds a fault for each missing setting of the product's issuer.
func (r *reader) requireIssuer(i Identity) {
	if i.JWKSURL == "" && i.JWKSFile == "" {
		r.fault("AUTH_JWKS_URL", "or %sAUTH_JWKS_FILE is required with %sAUTH_MODE %s", prefix, prefix, i.Mode)
	}
	if i.Issuer == "" {
		r.fault("AUTH_ISSUER", "is required with %sAUTH_MODE %s", prefix, i.Mode)
	}
	if len(i.Audience) == 0 {
		r.fault("AUTH_AUDIENCE", "is required with %sAUTH_MODE %s", prefix, i.Mode)
	}
}

// jwksURL refuses an address from which others might send keys.
func (r *reader) jwksURL(s string) {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" || u.Scheme != "https" && u.Scheme != "http" {
		r.fault("AUTH_JWKS_URL", "must be an https:// URL without user or fragment")
		return
	}
	if u.Scheme == "http" && !isNear(u.Hostname()) {
		r.fault("AUTH_JWKS_URL", "must be https: http is for loopback addresses and .svc hosts only")
	}
}

// isNear reports whether a host is this machine or a service of the same cluster.
func isNear(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if ip := net.ParseIP(host); ip != nil {
		return ip.IsLoopback()
	}
	return host == "localhost" || strings.HasSuffix(host, ".svc") || strings.HasSuffix(host, ".svc.cluster.local")
}

var serverKeyRule = regexp.MustCompile(`^parley_sk_[0-9a-f]{12}7[0-9a-f]{3}[89ab][0-9a-f]{15}_[A-Za-z0-9_-]{43}$`)

// serverKey is a whole key with which a product's back end calls the api, "" for none.
func (r *reader) serverKey(name string) string {
	s := r.text(name, "")
	if s != "" && !serverKeyRule.MatchString(s) {
		r.fault(name, "must be parley_sk_<a UUIDv7 without dashes>_<43 characters of base64url>")
	}
	return s
}
