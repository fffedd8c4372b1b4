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
	// settingsEvery is how often Redis's settings are read.
	settingsEvery = 6
	settingsWait  = 2 * time.Second
)

// maxSkew is how far a process's clock may be from Postgres's before that is logged. Tokens have a leeway of 30 s between two pods.
const maxSkew = 5 * time.Second

// Monitor checks a process's dependencies continuously: for its metrics, and for its log, which has one line when a dependency becomes unavailable and
// one when it is back.
type Monitor struct {
	health                         *Health
	log                            *slog.Logger
	postgres, redis, schema, ready prometheus.Gauge
	storage                        prometheus.Gauge // nil if there is none
	noEviction, expiryEvents, skew prometheus.Gauge
	postgresAway, redisAway        *Outage
	storageAway                    *Outage
	outages                        []*Outage

	// The following belong to Run's goroutine:
	looks   int
	advised bool // of an eviction policy that loses data
	skewed  bool // the log says that the clock is wrong
}

// NewMonitor makes a monitor; its Run makes it work.
func NewMonitor(h *Health, r prometheus.Registerer, log *slog.Logger) *Monitor {
	gauge := func(name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
		r.MustRegister(g)
		return g
	}
	up := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "parley_dependency_up", Help: "1 if the dependency can be used: Redis replies, Postgres accepts writes, the schema is new enough.",
	}, []string{"dependency"})
	r.MustRegister(up)
	m := &Monitor{
		health: h, log: log,
		skew:     gauge("parley_clock_skew_seconds", "How far the clock of this process is ahead of Postgres's (negative: behind); NaN until Postgres was reached."),
		postgres: up.WithLabelValues("postgres"), redis: up.WithLabelValues("redis"), schema: up.WithLabelValues("schema"),
		ready:        gauge("parley_ready", "1 while the process is ready."),
		noEviction:   gauge("parley_redis_noeviction", "1 if every Redis master has maxmemory-policy noeviction, 0 if one may drop keys, NaN if Redis does not show its settings."),
		expiryEvents: gauge("parley_redis_expiry_events", "1 if notify-keyspace-events of every Redis master includes expiries, 0 if not, NaN if Redis does not show its settings."),
	}
	if h.Storage != nil {
		m.storage = up.WithLabelValues("storage")
	}
	m.noEviction.Set(math.NaN())
	m.expiryEvents.Set(math.NaN())
	m.skew.Set(math.NaN())
	m.postgresAway = NewOutage(log, "postgres is unavailable", "postgres is available again")
	m.redisAway = NewOutage(log, "redis is unavailable", "redis is available again")
	m.storageAway = NewOutage(log, "the storage for files is unavailable", "the storage for files is available again")
	return m
}

// Watch adds outages that the monitor ends: those without a failure between two of its checks.
// It is called before Run.
func (m *Monitor) Watch(outages ...*Outage) { m.outages = append(m.outages, outages...) }

// Run checks until ctx ends.
func (m *Monitor) Run(ctx context.Context) error {
	m.look(ctx)
	return lifecycle.Every(ctx, monitorEvery, m.look)
}

func (m *Monitor) look(ctx context.Context) {
	fault.Point("monitor.look")
	c := m.health.Check(ctx)
	m.postgresAway.Note(c.Postgres)
	m.redisAway.Note(c.Redis)
	for _, o := range m.outages {
		o.Settle()
	}
	m.clock(c)
	m.postgres.Set(number(c.Postgres == nil))
	m.redis.Set(number(c.Redis == nil))
	m.schema.Set(number(c.Postgres == nil && !c.Outdated))
	if m.storage != nil {
		m.storageAway.Note(c.Storage)
		m.storage.Set(number(c.Storage == nil))
	}
	if c.Redis != nil {
		m.looks = 0 // it may return with other settings
	} else {
		if m.looks%settingsEvery == 0 {
			m.settings(ctx)
		}
		m.looks++
	}
	m.ready.Set(number(c.Ready() == nil))
}

// clock compares the process's clock with Postgres's.
func (m *Monitor) clock(c Checks) {
	if c.SkewError == 0 {
		return
	}
	m.skew.Set(c.Skew.Seconds())
	if skewed := c.Skew.Abs()-c.SkewError/2 > maxSkew; skewed != m.skewed {
		m.skewed = skewed
		if skewed {
			m.log.Warn("the clock of this machine is wrong, or Postgres's is: access tokens of one pod may be refused by another", "ahead_by", c.Skew.String())
		} else {
			m.log.Info("the clock of this machine agrees with Postgres's again")
		}
	}
}

// settings checks the required settings of Redis.
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

// settingsOf reads the settings of the masters: 1 if all are as required, 0 if one is not, NaN if Redis does not show them.
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
	// INFO shows the policy if CONFIG is refused, as managed services do.
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
