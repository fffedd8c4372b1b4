package push

import (
	"context"
	"net/url"
	"strings"

	"github.com/parley-chat/parley/internal/invalid"
	"github.com/parley-chat/parley/internal/outbound"
	"github.com/parley-chat/parley/internal/postgres"
)

// Service keeps devices and preferences, for the api. It is safe for concurrent use.
type Service struct {
	store  store
	config Config
	hosts  Hosts
	guard  *outbound.Guard
}

// NewService makes the service. Subscriptions must be of one of the hosts, and reachable as the guard has it.
func NewService(db *postgres.DB, c Config, hosts Hosts, guard *outbound.Guard) *Service {
	return &Service{store: store{db}, config: c, hosts: hosts, guard: guard}
}

// Config returns what clients need to know to register a device.
func (s *Service) Config() Config { return s.config }

// Put registers a device of a user, or changes it. It ends with its session; sessionID is empty for a caller without one. A provider
// that is not configured is no fault: the device waits until it is.
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

// checkEndpoint holds an endpoint against the list of hosts and the guard, and returns its host.
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

// Delete removes a device. One that is not there is no error.
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

// Change changes a user's preferences and returns them as they are then.
func (s *Service) Change(ctx context.Context, userID string, c *PreferencesChange) (Preferences, error) {
	return s.store.change(ctx, userID, c)
}
