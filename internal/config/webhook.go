package config

import (
	"encoding/base64"
	"net/netip"
	"strings"
	"time"
)

// Webhooks are the settings that the api and the dispatcher share.
type Webhooks struct {
	// SecretsKeys encrypt the secrets of webhooks: the first encrypts, all decrypt. Without any the api has no webhooks.
	SecretsKeys [][]byte
	// Timeout bounds a delivery.
	Timeout time.Duration
	// AllowCIDRs are networks that webhooks may reach although they are private, and by plain http.
	AllowCIDRs []netip.Prefix
}

// Dispatcher are the settings of the dispatcher.
type Dispatcher struct {
	Common
	Webhooks
	// Retries are the pauses before further attempts of an event.
	Retries      []time.Duration
	DisableAfter time.Duration
	OutboxKeep   time.Duration
	Push         Push
}

var webhookSettings = []string{
	"SECRETS_KEY", "WEBHOOK_TIMEOUT", "WEBHOOK_ALLOW_CIDRS", "WEBHOOK_RETRIES", "WEBHOOK_DISABLE_AFTER", "OUTBOX_KEEP",
}

// LoadDispatcher reads and checks the dispatcher's settings.
func LoadDispatcher() (Dispatcher, error) {
	r := newReader()
	c := Dispatcher{
		Common: r.common(), Webhooks: r.webhooks(), Retries: r.durations("WEBHOOK_RETRIES", "5s,30s,2m,5m,15m,30m,1h"),
		DisableAfter: r.duration("WEBHOOK_DISABLE_AFTER", 120*time.Hour, time.Minute), OutboxKeep: r.duration("OUTBOX_KEEP", 720*time.Hour, time.Hour),
		Push: r.push(),
	}
	if len(c.SecretsKeys) == 0 {
		r.fault("SECRETS_KEY", "is required")
	}
	return c, r.finish()
}

func (r *reader) webhooks() Webhooks {
	return Webhooks{
		SecretsKeys: r.keys("SECRETS_KEY"), Timeout: r.duration("WEBHOOK_TIMEOUT", 15*time.Second, time.Second), AllowCIDRs: r.prefixes("WEBHOOK_ALLOW_CIDRS"),
	}
}

const keyLen = 32

// keys reads keys of 32 bytes in base64, of either alphabet.
func (r *reader) keys(name string) [][]byte {
	var out [][]byte
	for i, s := range r.list(name) {
		for _, e := range []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding} {
			if k, err := e.DecodeString(s); err == nil && len(k) == keyLen {
				out = append(out, k)
				break
			}
		}
		if len(out) != i+1 {
			r.fault(name, "must hold keys of 32 bytes in base64; number %d is none", i+1)
			return nil
		}
	}
	return out
}

func (r *reader) durations(name, def string) []time.Duration {
	list := strings.Split(r.text(name, def), ",")
	out := make([]time.Duration, 0, len(list))
	for _, s := range list {
		d, err := time.ParseDuration(strings.TrimSpace(s))
		if err != nil || d < time.Second {
			r.fault(name, "must hold durations of at least 1s, such as %s", def)
			break
		}
		out = append(out, d)
	}
	return out
}
