package observe

import (
	"context"
	"log/slog"
	"math"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/parley-chat/parley/internal/fault"
	"github.com/parley-chat/parley/internal/lifecycle"
)

const (
	monitorEvery = 5 * time.Second
	// settingsEvery is how often Redis is asked for its settings.
	settingsEvery = 6
	settingsWait  = 2 * time.Second
)

// Monitor looks at a process's dependencies all the time, for those who look at its metrics.
type Monitor struct {
	health                         *Health
	log                            *slog.Logger
	postgres, redis, schema, ready prometheus.Gauge
	noEviction, expiryEvents       prometheus.Gauge
	looks                          int  // of Run's goroutine alone, like what follows
	advised                        bool // the operator was told of an eviction policy that loses data
}

// NewMonitor makes a monitor; its Run makes it work.
func NewMonitor(h *Health, r prometheus.Registerer, log *slog.Logger) *Monitor {
	gauge := func(name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
		r.MustRegister(g)
		return g
	}
	up := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "parley_dependency_up", Help: "1 where the dependency answers; the schema is up where it is new enough.",
	}, []string{"dependency"})
	r.MustRegister(up)
	m := &Monitor{
		health: h, log: log,
		postgres: up.WithLabelValues("postgres"), redis: up.WithLabelValues("redis"), schema: up.WithLabelValues("schema"),
		ready:        gauge("parley_ready", "1 while the process wants work."),
		noEviction:   gauge("parley_redis_noeviction", "1 where every master of Redis has maxmemory-policy noeviction, 0 where one may drop keys, NaN where Redis does not tell."),
		expiryEvents: gauge("parley_redis_expiry_events", "1 where notify-keyspace-events of every master of Redis has expiries told, 0 where not, NaN where Redis does not tell."),
	}
	m.noEviction.Set(math.NaN())
	m.expiryEvents.Set(math.NaN())
	return m
}

// Run looks until ctx ends.
func (m *Monitor) Run(ctx context.Context) error {
	m.look(ctx)
	return lifecycle.Every(ctx, monitorEvery, m.look)
}

func (m *Monitor) look(ctx context.Context) {
	fault.Point("monitor.look")
	c := m.health.Check(ctx)
	m.postgres.Set(number(c.Postgres == nil))
	m.redis.Set(number(c.Redis == nil))
	m.schema.Set(number(c.Postgres == nil && !c.Outdated))
	if c.Redis != nil {
		m.looks = 0 // it may come back with other settings
	} else {
		if m.looks%settingsEvery == 0 {
			m.settings(ctx)
		}
		m.looks++
	}
	m.ready.Set(number(c.Ready() == nil))
}

// settings looks at what Redis must be set to.
func (m *Monitor) settings(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, settingsWait)
	defer cancel()
	policy, events := settingsOf(ctx, m.health.Redis)
	m.noEviction.Set(policy)
	m.expiryEvents.Set(events)
	if policy == 0 && !m.advised {
		m.log.Warn("redis may drop keys when its memory is full, and with them reads that were acknowledged: set maxmemory-policy to noeviction")
	}
	m.advised = policy == 0
}

// settingsOf are the settings of the masters: 1 where all are as they must be, 0 where one is not, NaN where it does not tell.
func settingsOf(ctx context.Context, rdb redis.UniversalClient) (policy, events float64) {
	cluster, ok := rdb.(*redis.ClusterClient)
	if !ok {
		return settingsOfNode(ctx, rdb)
	}
	var mu sync.Mutex
	policy, events = math.NaN(), math.NaN()
	_ = cluster.ForEachMaster(ctx, func(ctx context.Context, c *redis.Client) error {
		p, e := settingsOfNode(ctx, c)
		mu.Lock()
		defer mu.Unlock()
		policy, events = worse(policy, p), worse(events, e)
		return nil
	})
	return policy, events
}

func worse(a, b float64) float64 {
	switch {
	case math.IsNaN(a):
		return b
	case math.IsNaN(b):
		return a
	}
	return min(a, b)
}

func settingsOfNode(ctx context.Context, rdb redis.Cmdable) (policy, events float64) {
	policy, events = math.NaN(), math.NaN()
	// INFO tells the policy where CONFIG is refused, as managed Redis does.
	if info, err := rdb.Info(ctx, "memory").Result(); err == nil {
		if _, rest, ok := strings.Cut(info, "maxmemory_policy:"); ok {
			policy = number(strings.HasPrefix(rest, "noeviction"))
		}
	}
	const setting = "notify-keyspace-events"
	if values, err := rdb.ConfigGet(ctx, setting).Result(); err == nil {
		v := values[setting]
		events = number(strings.Contains(v, "E") && strings.ContainsAny(v, "xA"))
	}
	return policy, events
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
