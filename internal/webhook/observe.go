package webhook

import (
	"context"
	"fmt"

	"github.com/parley-chat/parley/internal/postgres"
)

// standing has the values of an endpoint's gauges.
type standing struct {
	name, state string
	// lag is the age of the oldest change that waits, in seconds.
	lag  float64
	dead int64
}

// observe sets the gauges of all endpoints.
func (d *Dispatcher) observe(ctx context.Context) error {
	list, err := d.places.standings(ctx)
	if err != nil {
		return err
	}
	names := make(map[string]bool, len(list))
	for i := range list {
		names[list[i].name] = true
		d.metrics.set(&list[i])
	}
	for name := range d.observed {
		if !names[name] {
			d.metrics.remove(name)
		}
	}
	d.observed = names
	return nil
}

func (p *places) standings(ctx context.Context) ([]standing, error) {
	out, err := postgres.Collect(ctx, p.db, func(r postgres.Row, s *standing) error {
		return r.Scan(&s.name, &s.state, &s.lag, &s.dead)
	}, `SELECT w.name,
			CASE WHEN w.disabled_reason IS NOT NULL THEN 'disabled' WHEN w.failing_since IS NOT NULL THEN 'failing' ELSE 'active' END,
			coalesce(greatest(0, extract(epoch FROM clock_timestamp() - least(
				(SELECT min(p.behind_since) FROM webhook_places p WHERE p.webhook_id = w.id AND p.behind),
				(SELECT min(o.created_at) FROM outbox o WHERE o.webhook_id = w.id AND o.replay_id IS NULL)))), 0)::float8,
			(SELECT count(*) FROM webhook_dead d WHERE d.webhook_id = w.id)
		FROM webhooks w`)
	if err != nil {
		return nil, fmt.Errorf("read the state of webhooks: %w", err)
	}
	return out, nil
}
