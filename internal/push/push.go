// Package push notifies the devices of users who are not active of new messages: by web push, by Firebase Cloud Messaging, and by the
// webhook push.requested for all other providers.
//
// The api stores devices and preferences (Service) and records in Redis which users are active (Attention). The dispatcher decides and sends:
//
//	conversations.changed_at ──► places behind ──► Decider: which members still     ──► push_sends ──► Sender ──► provider
//	                                               have the message unread?         └─► outbox (push.requested)
//
// A push is a hint. It is decided once, some seconds after the message's commit (the delay), and dropped after five failed attempts. A row
// of push_sends has no content: text, badge and preferences are read when the push is sent. So the push includes edits, and a message
// deleted in between is not pushed. The payload of push.requested has the content at the time of the decision.
package push

import (
	"crypto/ecdh"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/parley-chat/parley/internal/invalid"
	"github.com/parley-chat/parley/internal/jsonbody"
)

// ErrEnded is returned for a device of a user or session that has just ended.
var ErrEnded = errors.New("the session has ended")

// Providers of pushes.
const (
	ProviderWebPush = "webpush"
	ProviderFCM     = "fcm"
)

// Levels of preferences and of a conversation's notifications.
const (
	LevelAll      = "all"
	LevelMentions = "mentions"
	LevelNone     = "none"
)

const (
	maxDevices = 20
	maxToken   = 4096
	maxURL     = 2048
	authLen    = 16 // bytes (RFC 8291)
)

// Config is what clients need to know to register a device.
type Config struct {
	// WebPush is nil if web push is not configured.
	WebPush *WebPushConfig `json:"webPush"`
	FCM     bool           `json:"fcm"`
}

// WebPushConfig has the public key to subscribe with, in base64url.
type WebPushConfig struct {
	PublicKey string `json:"publicKey"`
}

// Subscription is a browser's PushSubscription, as its toJSON returns it. ExpirationTime is not used, because the push service responds
// 410 after it.
type Subscription struct {
	Endpoint       string
	ExpirationTime jsonbody.Optional[float64]
	Keys           SubscriptionKeys
}

// UnmarshalJSON decodes a subscription. It returns *invalid.Faults if a rule is violated.
func (s *Subscription) UnmarshalJSON(b []byte) error {
	var in subscriptionBody
	if err := jsonbody.Decode(b, &in); err != nil {
		return err
	}
	*s = Subscription(in)
	return nil
}

type subscriptionBody struct {
	Endpoint       string                     `json:"endpoint"`
	ExpirationTime jsonbody.Optional[float64] `json:"expirationTime,omitempty"`
	Keys           SubscriptionKeys           `json:"keys"`
}

// Check notes the faults of the endpoint. Its host is checked by the service.
func (s *subscriptionBody) Check(f *invalid.Faults) {
	if u, err := url.Parse(s.Endpoint); err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || len(s.Endpoint) > maxURL {
		f.Add("endpoint", "must be an absolute https URL of at most %d bytes", maxURL)
	}
}

// SubscriptionKeys are in standard or URL-safe base64, with or without padding.
type SubscriptionKeys struct {
	P256dh, Auth string
}

// UnmarshalJSON decodes the keys. It returns *invalid.Faults if a rule is violated.
func (k *SubscriptionKeys) UnmarshalJSON(b []byte) error {
	var in keysBody
	if err := jsonbody.Decode(b, &in); err != nil {
		return err
	}
	*k = SubscriptionKeys(in)
	return nil
}

type keysBody struct {
	P256dh string `json:"p256dh"`
	Auth   string `json:"auth"`
}

// Check notes the faults of the keys.
func (k *keysBody) Check(f *invalid.Faults) {
	if key, err := decodeKey(k.P256dh); err != nil {
		f.Add("p256dh", "must be base64url")
	} else if _, err := ecdh.P256().NewPublicKey(key); err != nil {
		f.Add("p256dh", "must be a public key on the curve P-256, uncompressed")
	}
	if secret, err := decodeKey(k.Auth); err != nil || len(secret) != authLen {
		f.Add("auth", "must be %d bytes in base64url", authLen)
	}
}

// Registration is a device to push to.
type Registration struct {
	// Provider is webpush, with a subscription, or fcm, with a token.
	Provider     string                           `json:"provider"`
	Subscription jsonbody.Optional[*Subscription] `json:"subscription,omitempty"`
	Token        jsonbody.Optional[string]        `json:"token,omitempty"`
}

var tokenRule = regexp.MustCompile(`^[\x21-\x7e]+$`)

// Check notes the faults of the registration, except those of its subscription's host, which the service checks.
func (r *Registration) Check(f *invalid.Faults) {
	switch r.Provider {
	case ProviderWebPush:
		if r.Token.Set {
			f.Add("token", "is for fcm alone")
		}
		wrong := slices.ContainsFunc(f.List(), func(x invalid.Fault) bool { return strings.HasPrefix(x.Field, "subscription.") })
		if r.Subscription.Value == nil && !wrong {
			f.Add("subscription", "is required for webpush")
		}
	case ProviderFCM:
		if r.Subscription.Set {
			f.Add("subscription", "is for webpush alone")
		}
		if t := r.Token.Value; !r.Token.Set {
			f.Add("token", "is required for fcm")
		} else if len(t) > maxToken || !tokenRule.MatchString(t) {
			f.Add("token", "must have 1 to %d characters of ASCII, without white space", maxToken)
		}
	default:
		f.Add("provider", "must be webpush or fcm")
	}
}

// decodeKey decodes standard or URL-safe base64, with or without padding.
func decodeKey(s string) ([]byte, error) {
	s = strings.NewReplacer("+", "-", "/", "_").Replace(strings.TrimRight(s, "="))
	return base64.RawURLEncoding.DecodeString(s)
}

// Preferences are a user's preferences for pushes.
type Preferences struct {
	// Level is all, mentions or none.
	Level string `json:"level"`
	// Preview is whether pushes show the message's text.
	Preview bool `json:"preview"`
}

// PreferencesChange changes preferences. Absent members stay unchanged.
type PreferencesChange struct {
	Level   jsonbody.Optional[string] `json:"level,omitempty"`
	Preview jsonbody.Optional[bool]   `json:"preview,omitempty"`
}

// Check notes the faults of the change.
func (c *PreferencesChange) Check(f *invalid.Faults) {
	if l := c.Level; l.Set && l.Value != LevelAll && l.Value != LevelMentions && l.Value != LevelNone {
		f.Add("level", "must be all, mentions or none")
	}
	if c.Preview.Null {
		f.Add("preview", "must be true or false, not null")
	}
	if !c.Level.Set && !c.Preview.Set && f.Err() == nil {
		f.Add("body", "must have level or preview")
	}
}

var deviceRule = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// CheckDevice returns a fault if the text is not a valid id of a device.
func CheckDevice(deviceID string) error {
	if !deviceRule.MatchString(deviceID) {
		return invalid.One("deviceId", "must have 1 to 64 characters of A-Z, a-z, 0-9, _ and -")
	}
	return nil
}

// PublicKey returns the public key, in base64url, of a VAPID private key, which is 32 bytes in base64url.
func PublicKey(private string) (string, error) {
	raw, err := decodeKey(private)
	if err != nil {
		return "", fmt.Errorf("push: the VAPID key: %w", err)
	}
	key, err := ecdh.P256().NewPrivateKey(raw)
	if err != nil {
		return "", fmt.Errorf("push: the VAPID key: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(key.PublicKey().Bytes()), nil
}

// Hosts are patterns of the hosts of subscriptions: a host, or *.domain for every host below a domain.
type Hosts []string

// DefaultHosts are the push services of Chrome, Firefox, Safari and Edge.
var DefaultHosts = Hosts{"fcm.googleapis.com", "*.push.services.mozilla.com", "*.push.apple.com", "*.notify.windows.com"}

// Allow reports whether a host matches one of the patterns.
func (h Hosts) Allow(host string) bool {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	for _, p := range h {
		if domain, wild := strings.CutPrefix(p, "*"); wild && strings.HasSuffix(host, domain) && len(host) > len(domain) || p == host {
			return true
		}
	}
	return false
}

// Exact returns the patterns that name a single host and are not covered by DefaultHosts. The operator chose these hosts, so they may have
// private addresses.
func (h Hosts) Exact() []string {
	var out []string
	for _, p := range h {
		if !strings.HasPrefix(p, "*") && !DefaultHosts.Allow(p) {
			out = append(out, p)
		}
	}
	return out
}

// Push is the payload that a device receives.
type Push struct {
	V              int    `json:"v"`
	Type           string `json:"type"`
	ConversationID string `json:"conversationId"`
	MessageID      string `json:"messageId"`
	Seq            int64  `json:"seq"`
	Title          string `json:"title"`
	// Body is left out if the user or the server does not want previews.
	Body string `json:"body,omitempty"`
	// Count is the number of unread messages of the conversation since its last push to the user.
	Count  int64  `json:"count"`
	Unread Unread `json:"unread"`
}

// Unread has a user's unread messages and mentions over all conversations, for a badge.
type Unread struct {
	Messages int64 `json:"messages"`
	Mentions int64 `json:"mentions"`
}

func encode(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode a push: %w", err)
	}
	return b, nil
}
