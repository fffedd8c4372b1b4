package observe

import (
	"database/sql"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/redis/go-redis/v9"
)

// RegisterPools registers the figures of a process's connections. redisSize bounds those to each node of Redis.
func RegisterPools(r prometheus.Registerer, db *sql.DB, rdb redis.UniversalClient, redisSize int) {
	r.MustRegister(collectors.NewDBStatsCollector(db, "parley"), newRedisPool(rdb, redisSize))
}

// redisPool reads go-redis's figures at each scrape. On a cluster they are the sums of all nodes.
type redisPool struct {
	rdb                                                              redis.UniversalClient
	size                                                             int
	bound, connections, hits, misses, timeouts, stale, waits, waited *prometheus.Desc
}

func newRedisPool(rdb redis.UniversalClient, size int) *redisPool {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("parley_redis_pool_"+name, help, labels, nil)
	}
	return &redisPool{
		rdb: rdb, size: size,
		bound:       desc("size", "Largest number of connections to each Redis node."),
		connections: desc("connections", "Connections to Redis, without subscriptions.", "state"),
		hits:        desc("hits_total", "Times that an idle connection was found."),
		misses:      desc("misses_total", "Times that no idle connection was found."),
		timeouts:    desc("timeouts_total", "Waits for a connection that timed out."),
		stale:       desc("stale_total", "Connections that were closed because they were old or broken."),
		waits:       desc("waits_total", "Times that no connection was free and the caller had to wait."),
		waited:      desc("wait_seconds_total", "Total time spent waiting for a connection."),
	}
}

// Describe implements prometheus.Collector.
func (p *redisPool) Describe(c chan<- *prometheus.Desc) { prometheus.DescribeByCollect(p, c) }

// Collect reads the figures.
func (p *redisPool) Collect(c chan<- prometheus.Metric) {
	s := p.rdb.PoolStats()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		c <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v float64) {
		c <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v)
	}
	idle := min(s.IdleConns, s.TotalConns) // they are not read at one instant
	gauge(p.bound, float64(p.size))
	gauge(p.connections, float64(idle), "idle")
	gauge(p.connections, float64(s.TotalConns-idle), "used")
	counter(p.hits, float64(s.Hits))
	counter(p.misses, float64(s.Misses))
	counter(p.timeouts, float64(s.Timeouts))
	counter(p.stale, float64(s.StaleConns))
	counter(p.waits, float64(s.WaitCount))
	counter(p.waited, time.Duration(s.WaitDurationNs).Seconds())
}
