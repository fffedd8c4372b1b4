package webhook

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/parley-chat/parley/internal/cursor"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/invalid"
	"github.com/parley-chat/parley/internal/outbound"
	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/timestamp"
)

// Service manages endpoints. The api uses it; its methods may be called concurrently.
type Service struct {
	store  *Store
	sealer *Sealer
	guard  *outbound.Guard
	sender *sender
}

// NewService makes the service. timeout bounds the request of a Test or Retry.
func NewService(db *postgres.DB, sealer *Sealer, guard *outbound.Guard, timeout time.Duration) *Service {
	return &Service{store: NewStore(db), sealer: sealer, guard: guard, sender: newSender(sealer, guard, timeout)}
}

// Create makes an endpoint and returns it with its secret, which is not returned again.
func (s *Service) Create(ctx context.Context, d *Draft) (WithSecret, error) {
	if why := s.guard.CheckURL(d.URL); why != "" {
		return WithSecret{}, invalid.One("url", "%s", why)
	}
	endpointID, secret := id.New(), newSecret()
	e, err := s.store.insert(ctx, endpointID, d, s.sealer.Seal(endpointID, secret))
	return WithSecret{e, shown(secret)}, err
}

// List returns all endpoints, the oldest first.
func (s *Service) List(ctx context.Context) ([]Endpoint, error) { return s.store.list(ctx) }

// Get returns an endpoint.
func (s *Service) Get(ctx context.Context, endpointID string) (Endpoint, error) {
	return endpointOf(ctx, s.store.db.SQL, endpointID)
}

// Update changes an endpoint.
func (s *Service) Update(ctx context.Context, endpointID string, c *Change) (Endpoint, error) {
	if c.URL.Set {
		if why := s.guard.CheckURL(c.URL.Value); why != "" {
			return Endpoint{}, invalid.One("url", "%s", why)
		}
	}
	return s.store.update(ctx, endpointID, c)
}

// Delete deletes an endpoint and all events that wait for it.
func (s *Service) Delete(ctx context.Context, endpointID string) error {
	return s.store.delete(ctx, endpointID)
}

// Rotate gives an endpoint a new secret and returns it. For 24 hours deliveries are signed with the former secret too.
func (s *Service) Rotate(ctx context.Context, endpointID string) (string, error) {
	secret := newSecret()
	if err := s.store.rotate(ctx, endpointID, s.sealer.Seal(endpointID, secret)); err != nil {
		return "", err
	}
	return shown(secret), nil
}

// Test sends parley.test to an endpoint now.
func (s *Service) Test(ctx context.Context, endpointID string) (Trial, error) {
	t, err := s.store.target(ctx, endpointID)
	if err != nil {
		return Trial{}, err
	}
	b, err := json.Marshal(body{Type: "parley.test", Timestamp: timestamp.Time{Time: time.Now().UTC()}, Data: struct{}{}})
	if err != nil {
		return Trial{}, fmt.Errorf("encode a test: %w", err)
	}
	begun := time.Now()
	o := s.sender.send(ctx, t, delivery{id: "evt_" + id.New(), typ: "parley.test", body: b}, false)
	trial := Trial{Status: o.statusOrNull(), DurationMS: time.Since(begun).Milliseconds()}
	if !o.ok() {
		trial.Error = &o.reason
	}
	return trial, nil
}

// Attempts returns a page of an endpoint's failed deliveries, the newest first.
func (s *Service) Attempts(ctx context.Context, endpointID string, before *cursor.Position, limit int) (list []Attempt, more bool, err error) {
	if _, err := s.Get(ctx, endpointID); err != nil {
		return nil, false, err
	}
	list, err = s.store.attempts(ctx, endpointID, before, limit+1)
	if more = len(list) > limit; more {
		list = list[:limit]
	}
	return list, more, err
}

// DeadEvents returns a page of an endpoint's dead events, the newest first.
func (s *Service) DeadEvents(ctx context.Context, endpointID string, before *cursor.Position, limit int) (list []Dead, more bool, err error) {
	if _, err := s.Get(ctx, endpointID); err != nil {
		return nil, false, err
	}
	list, err = s.store.dead(ctx, endpointID, before, limit+1)
	if more = len(list) > limit; more {
		list = list[:limit]
	}
	return list, more, err
}

// Retry sends a dead event again. It stays dead if that fails, or if the process is killed meanwhile.
func (s *Service) Retry(ctx context.Context, endpointID, event string) error {
	t, err := s.store.target(ctx, endpointID)
	if err != nil {
		return err
	}
	d, err := s.store.deadEvent(ctx, endpointID, event)
	if err != nil {
		return err
	}
	o := s.sender.send(ctx, t, d, false)
	return s.store.settleDead(context.WithoutCancel(ctx), endpointID, event, o)
}

// Forget removes a dead event without delivering it.
func (s *Service) Forget(ctx context.Context, endpointID, event string) error {
	return s.store.forgetDead(ctx, endpointID, event)
}
