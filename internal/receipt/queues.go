package receipt

import (
	"context"
	"log/slog"
	"sync/atomic"

	"github.com/hibiken/asynq"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/parley-chat/parley/internal/lifecycle"
)

// Queues exports the state of asynq's queue. It inspects the queue in the background, so that a scrape never waits for Redis.
type Queues struct {
	inspector      *asynq.Inspector
	log            *slog.Logger
	seen           atomic.Pointer[asynq.QueueInfo] // by the last inspection, nil if Redis did not reply
	tasks, latency *prometheus.Desc
}

// NewQueues registers the metrics of asynq's queue. It needs its Run. All workers export the same values, so queries have to use the maximum of the
// workers and not the sum.
func NewQueues(r prometheus.Registerer, rdb redis.UniversalClient, log *slog.Logger) *Queues {
	q := &Queues{
		inspector: asynq.NewInspectorFromRedisClient(rdb), log: log,
		tasks: prometheus.NewDesc("parley_asynq_tasks",
			"Flushes in asynq by state. Completed ones are kept for a while and are not a backlog. All workers export the same value.", []string{"queue", "state"}, nil),
		latency: prometheus.NewDesc("parley_asynq_latency_seconds", "Age of the oldest pending flush. All workers export the same value.", []string{"queue"}, nil),
	}
	r.MustRegister(q)
	return q
}

// Run inspects the queue until ctx ends.
func (q *Queues) Run(ctx context.Context) error {
	q.inspect(ctx)
	return lifecycle.Every(ctx, sampleEvery, q.inspect)
}

func (q *Queues) inspect(context.Context) {
	info, err := q.inspector.GetQueueInfo(flushQueue)
	if err != nil {
		q.log.Debug("asynq's queue can't be inspected", "error", err)
		info = nil
	}
	q.seen.Store(info)
}

// Describe implements prometheus.Collector.
func (q *Queues) Describe(c chan<- *prometheus.Desc) {
	c <- q.tasks
	c <- q.latency
}

// Collect implements prometheus.Collector. While Redis is unavailable there are no values.
func (q *Queues) Collect(c chan<- prometheus.Metric) {
	info := q.seen.Load()
	if info == nil {
		return
	}
	for state, n := range map[string]int{
		"pending": info.Pending, "active": info.Active, "scheduled": info.Scheduled, "retry": info.Retry, "archived": info.Archived, "completed": info.Completed,
	} {
		c <- prometheus.MustNewConstMetric(q.tasks, prometheus.GaugeValue, float64(n), flushQueue, state)
	}
	c <- prometheus.MustNewConstMetric(q.latency, prometheus.GaugeValue, info.Latency.Seconds(), flushQueue)
}
