package receipt_test

import (
	"context"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/parley-chat/parley/internal/receipt"
	"github.com/parley-chat/parley/internal/testenv"
)

// hanging holds a client's commands up while it is not closed.
type hanging chan struct{}

func (hanging) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}
func (h hanging) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		<-h
		return next(ctx, cmd)
	}
}
func (hanging) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// Whoever asks for the metrics does not wait for a Redis that hangs.
func TestTheQueuesMetricsDoNotWaitForRedis(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	task := asynq.NewTask("receipts:flush", nil)
	if _, err := asynq.NewClientFromRedisClient(server.Client(t)).Enqueue(task, asynq.Queue("receipts")); err != nil {
		t.Fatal(err)
	}
	rdb, h, registry := server.Client(t), make(hanging), prometheus.NewRegistry()
	rdb.AddHook(h)
	q := receipt.NewQueues(registry, rdb, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = q.Run(ctx) }()
	defer func() { cancel(); <-done }()
	series := func() int {
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		return len(families)
	}
	if n := series(); n != 0 { // it would not return where it asked Redis
		t.Errorf("%d families before Redis answered", n)
	}
	close(h)
	testenv.Eventually(t, time.Minute, func() bool { return series() == 2 }, "the queue is seen")
}
