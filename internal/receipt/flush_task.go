package receipt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/parley-chat/parley/internal/lifecycle"
	"github.com/parley-chat/parley/internal/tracing"
)

const (
	flushTask  = "receipts:flush"
	flushQueue = "receipts"
	// pollEvery is how often the server looks for a task, and so how late a tick is at most.
	pollEvery = 200 * time.Millisecond
	// flushTimeout bounds one flush. What is left over is the next one's.
	flushTimeout = 10 * time.Minute
	// asynqWait is how long asynq has to end by itself, when nothing of ours runs in it.
	asynqWait = 3 * time.Second
	// traceHeader is the header of a task that carries its trace.
	traceHeader = "traceparent"
	// tickRetry is the pause after a tick that Redis did not take.
	tickRetry = time.Second
)

// Schedule enqueues a flush each interval, once, however many workers run: a task bears the number of its interval by
// Redis's clock, which no other can take, and which no later one has. So a task that failed, was archived or is stuck with
// a dead worker is never in the way of the next.
type Schedule struct {
	rdb      redis.UniversalClient
	tracer   *tracing.Tracer
	interval time.Duration
	metrics  *FlushMetrics
	log      *slog.Logger
}

// NewSchedule makes the schedule of flushes.
func NewSchedule(rdb redis.UniversalClient, interval time.Duration, m *FlushMetrics, tracer *tracing.Tracer, log *slog.Logger) *Schedule {
	return &Schedule{rdb: rdb, tracer: tracer, interval: interval, metrics: m, log: log}
}

// Run enqueues until ctx ends.
func (s *Schedule) Run(ctx context.Context) error {
	failing := false
	for {
		wait, err := s.tick(ctx)
		if err != nil && ctx.Err() == nil {
			s.metrics.missed.Inc()
			if !failing {
				s.log.Warn("redis does not take the next flush; it is tried again", "error", err)
			}
			wait = tickRetry
		}
		failing = err != nil
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// tick enqueues this interval's flush, unless another worker has, and answers how long the next one is away.
func (s *Schedule) tick(ctx context.Context) (time.Duration, error) {
	now, err := s.rdb.Time(ctx).Result()
	if err != nil {
		return 0, fmt.Errorf("ask redis for the time: %w", err)
	}
	n := now.UnixNano() / int64(s.interval)
	ctx, span := s.tracer.Enqueue(ctx, "enqueue "+flushTask)
	defer span.End()
	task := asynq.NewTaskWithHeaders(flushTask, nil, map[string]string{traceHeader: tracing.Parent(ctx)})
	// A new client each time: one names its queue to Redis once, and Redis may forget.
	_, err = asynq.NewClientFromRedisClient(s.rdb).EnqueueContext(ctx, task, asynq.TaskID(fmt.Sprintf("%s:%d", flushTask, n)),
		asynq.Queue(flushQueue), asynq.MaxRetry(0), asynq.Timeout(flushTimeout), asynq.Retention(3*s.interval))
	if err != nil && !errors.Is(err, asynq.ErrTaskIDConflict) {
		return 0, fmt.Errorf("enqueue a flush: %w", err)
	}
	return time.Unix(0, (n+1)*int64(s.interval)).Sub(now), nil
}

// Worker runs the flushes that are enqueued.
type Worker struct {
	flusher *Flusher
	rdb     redis.UniversalClient
	tracer  *tracing.Tracer
	stop    time.Duration
	log     *slog.Logger
}

// NewWorker makes a worker. stop bounds how long a flush has, once the worker is told to stop, for what it has in hand.
func NewWorker(f *Flusher, stop time.Duration, tracer *tracing.Tracer) *Worker {
	return &Worker{flusher: f, rdb: f.rdb, tracer: tracer, stop: stop, log: f.log}
}

// Run works until ctx ends. A flush that runs then ends the pieces that it has in hand.
func (w *Worker) Run(ctx context.Context) error {
	server := asynq.NewServerFromRedisClient(w.rdb, asynq.Config{
		Concurrency: 1, Queues: map[string]int{flushQueue: 1}, TaskCheckInterval: pollEvery, ShutdownTimeout: w.stop,
		Logger: asynqLog{w.log}, LogLevel: asynq.WarnLevel,
	})
	var flushing sync.Mutex // held by the flush that runs, of which there is one at most
	handler := asynq.HandlerFunc(func(task context.Context, t *asynq.Task) error {
		flushing.Lock()
		defer flushing.Unlock()
		task, cancel := context.WithCancel(lifecycle.Within(task, ctx))
		defer cancel()
		defer context.AfterFunc(ctx, cancel)()
		task, span := w.tracer.Consumer(task, "task "+flushTask, t.Headers()[traceHeader])
		defer span.End()
		err := guarded(task, func() error { return w.flusher.Flush(task) })
		tracing.Failed(span, err)
		if err != nil {
			w.log.ErrorContext(task, "a flush failed; what is pending stays for the next", "error", err)
		}
		return nil // asynq would archive the task, for months; as one that is done it keeps its id only as long as that is needed
	})
	if err := server.Start(handler); err != nil {
		return fmt.Errorf("start asynq: %w", err)
	}
	<-ctx.Done()
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		server.Shutdown()
	}()
	select {
	case <-stopped:
		return nil
	case <-time.After(asynqWait):
	}
	flushing.Lock() // a flush ends what it has in hand; the rest is asynq's own, which waits for a Redis that hangs
	defer flushing.Unlock()
	select {
	case <-stopped:
	case <-time.After(asynqWait):
		w.log.Warn("asynq does not end because redis does not answer; the process ends without it")
	}
	return nil
}

// asynqLog passes asynq's log to slog, under one message, so that a line a second without Redis is a line a minute. It is about asynq's
// housekeeping: flushes are logged on their own.
type asynqLog struct {
	log *slog.Logger
}

const asynqMessage = "asynq's housekeeping failed"

func (l asynqLog) Debug(args ...any) { l.log.Debug(fmt.Sprint(args...), "part", "asynq") }
func (l asynqLog) Info(args ...any)  { l.log.Debug(fmt.Sprint(args...), "part", "asynq") }
func (l asynqLog) Warn(args ...any) {
	l.log.Warn(asynqMessage, "part", "asynq", "error", fmt.Sprint(args...))
}
func (l asynqLog) Error(args ...any) {
	l.log.Warn(asynqMessage, "part", "asynq", "error", fmt.Sprint(args...))
}
func (l asynqLog) Fatal(args ...any) { l.log.Error(fmt.Sprint(args...), "part", "asynq") }
