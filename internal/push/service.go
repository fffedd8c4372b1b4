package push

import (
	"context"
	"net/url"
	"strings"

	"github.com/parley-chat/parley/internal/invalid"
	"github.com/parley-chat/parley/internal/outbound"
	"github.com/parley-chat/parley/internal/postgres"
)

// Service stores devices and preferences. The api uses it. Safe for concurrent use.
type Service struct {
	store  store
	config Config
	hosts  Hosts
	guard  *outbound.Guard
}

// NewService makes the service. The endpoint of a subscription must be on one of the hosts, and allowed by the guard.
func NewService(db *postgres.DB, c Config, hosts Hosts, guard *outbound.Guard) *Service {
	return &Service{store: store{db}, config: c, hosts: hosts, guard: guard}
}

// Config returns what clients need to know to register a device.
func (s *Service) Config() Config { return s.config }

// Put registers or changes a device of a user. The device ends with the session; sessionID is "" for a caller without one. The provider
// need not be configured: its devices get pushes once it is.
func (s *Service) Put(ctx context.Context, userID, sessionID, deviceID string, r *Registration) error {
	if err := CheckDevice(deviceID); err != nil {
		return err
	}
	d := device{userID: userID, deviceID: deviceID, sessionID: sessionID, provider: r.Provider, lane: ProviderFCM, address: r.Token.Value}
	if r.Provider == ProviderWebPush {
		sub := r.Subscription.Value
		lane, err := s.checkEndpoint(sub.Endpoint)
		if err != nil {
			return err
		}
		d.lane, d.address, d.p256dh, d.secret = lane, sub.Endpoint, sub.Keys.P256dh, sub.Keys.Auth
	}
	return s.store.put(ctx, &d)
}

// checkEndpoint returns the host of an endpoint, or a fault if the hosts or the guard don't allow it.
func (s *Service) checkEndpoint(endpoint string) (host string, err error) {
	const field = "subscription.endpoint"
	u, err := url.Parse(endpoint)
	if err != nil {
		return "", invalid.One(field, "must be a URL")
	}
	host = strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
	if !s.hosts.Allow(host) {
		return "", invalid.One(field, "must be of one of the hosts of PARLEY_PUSH_WEBPUSH_HOSTS")
	}
	if why := s.guard.CheckURL(endpoint); why != "" {
		return "", invalid.One(field, "%s", why)
	}
	return host, nil
}

// Delete removes a device. It returns nil if there is none.
func (s *Service) Delete(ctx context.Context, userID, deviceID string) error {
	if err := CheckDevice(deviceID); err != nil {
		return err
	}
	return s.store.delete(ctx, userID, deviceID)
}

// Preferences returns a user's preferences.
func (s *Service) Preferences(ctx context.Context, userID string) (Preferences, error) {
	return s.store.preferences(ctx, userID)
}

// Change changes a user's preferences and returns the new ones.
func (s *Service) Change(ctx context.Context, userID string, c *PreferencesChange) (Preferences, error) {
	return s.store.change(ctx, userID, c)
}
