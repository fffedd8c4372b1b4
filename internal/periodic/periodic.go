// Package periodic runs a task at fixed intervals through asynq: once in each interval, regardless of how many processes schedule and run it, and of
// the result of the run before.
package periodic

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/parley-chat/parley/internal/backoff"
	"github.com/parley-chat/parley/internal/lifecycle"
	"github.com/parley-chat/parley/internal/observe"
	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/redisconn"
	"github.com/parley-chat/parley/internal/tracing"
)

const (
	// asynqWait is how long asynq has to stop when no run of the task is left. It sleeps up to one and a half polls before it notices,
	// so maxPoll bounds them.
	asynqWait = 3 * time.Second
	maxPoll   = asynqWait / 2
	// traceHeader is the header of a task that carries its trace.
	traceHeader = "traceparent"
	// tickRetry is the pause after a tick that Redis did not accept.
	tickRetry = time.Second
	// kept is how many intervals a finished task is kept, so that no slow process enqueues its interval again.
	kept = 3
	// settle is the number of intervals after which an outage is over if this worker's runs have not failed since: others may run the task.
	settle = 2
)

// errPanic is the error of a run that panicked.
var errPanic = errors.New("the task panicked")

// Task is something to do each interval.
type Task struct {
	// Name and Queue are asynq's. No two tasks share a queue.
	Name, Queue string
	// Interval is the time between two runs, a second at least. Timeout bounds one.
	Interval, Timeout time.Duration
	// Poll is how often a worker looks for the next run, 1.5 s at most, because a worker that stops waits for it. A run is delayed by up to
	// one and a half of them.
	Poll time.Duration
	// Run does the work. Two processes may call it at once if a run takes longer than the interval; one process never does.
	Run func(ctx context.Context) error
	// Missed, if set, is called for each tick that Redis did not accept; it is repeated.
	Missed func()
}

// Schedule enqueues a task once per interval, no matter how many processes run it. The task's id is the number of its interval by Redis's
// clock: a second task with the same id is refused, and no later task has it. So a task that failed, was archived or is stuck with a
// dead worker never blocks the next.
type Schedule struct {
	task   Task
	rdb    redis.UniversalClient
	tracer *tracing.Tracer
	log    *slog.Logger
}

// NewSchedule makes the schedule of a task.
func NewSchedule(t Task, rdb redis.UniversalClient, tracer *tracing.Tracer, log *slog.Logger) *Schedule {
	return &Schedule{task: t, rdb: rdb, tracer: tracer, log: log}
}

// Run enqueues until ctx ends.
func (s *Schedule) Run(ctx context.Context) error {
	failing := false
	for {
		wait, err := s.tick(ctx)
		if err != nil && ctx.Err() == nil {
			if s.task.Missed != nil {
				s.task.Missed()
			}
			if !failing {
				s.log.Warn("redis does not accept the next task; it is tried again", "task", s.task.Name, "error", err)
			}
			wait = tickRetry
		}
		failing = err != nil
		if !backoff.Wait(ctx, wait) {
			return nil
		}
	}
}

// tick enqueues this interval's run, unless another process has, and returns the time until the next one.
func (s *Schedule) tick(ctx context.Context) (time.Duration, error) {
	now, err := s.rdb.Time(ctx).Result()
	if err != nil {
		return 0, fmt.Errorf("ask redis for the time: %w", err)
	}
	n := now.UnixNano() / int64(s.task.Interval)
	ctx, span := s.tracer.Enqueue(ctx, "enqueue "+s.task.Name)
	defer span.End()
	task := asynq.NewTaskWithHeaders(s.task.Name, nil, map[string]string{traceHeader: tracing.Parent(ctx)})
	// A new client each time: one names its queue to Redis once, and Redis may forget.
	_, err = asynq.NewClientFromRedisClient(s.rdb).EnqueueContext(ctx, task, asynq.TaskID(fmt.Sprintf("%s:%d", s.task.Name, n)),
		asynq.Queue(s.task.Queue), asynq.MaxRetry(0), asynq.Timeout(s.task.Timeout), asynq.Retention(kept*s.task.Interval))
	if err != nil && !errors.Is(err, asynq.ErrTaskIDConflict) {
		return 0, fmt.Errorf("enqueue %s: %w", s.task.Name, err)
	}
	return time.Unix(0, (n+1)*int64(s.task.Interval)).Sub(now), nil
}

// Worker runs the tasks that are enqueued.
type Worker struct {
	task    Task
	rdb     redis.UniversalClient
	tracer  *tracing.Tracer
	stop    time.Duration
	log     *slog.Logger
	running sync.Mutex // held by the run of the task, of which there is one at most
	failing *observe.Outage
}

// NewWorker makes a worker. stop bounds the time that a run has to finish once the worker stops.
func NewWorker(t Task, rdb redis.UniversalClient, stop time.Duration, tracer *tracing.Tracer, log *slog.Logger) *Worker {
	return &Worker{
		task: t, rdb: rdb, tracer: tracer, stop: stop, log: log,
		failing: observe.NewOutage(log, "a periodic task failed; the next run continues", "the periodic task succeeds again"),
	}
}

// Run works until ctx ends, which also ends the context of a run of the task. It returns an error if the task's Poll is too long.
func (w *Worker) Run(ctx context.Context) error {
	if w.task.Poll > maxPoll {
		return fmt.Errorf("the task %s is polled every %s: a worker could not stop in time", w.task.Name, w.task.Poll)
	}
	server := asynq.NewServerFromRedisClient(w.rdb, asynq.Config{
		Concurrency: 1, Queues: map[string]int{w.task.Queue: 1}, TaskCheckInterval: w.task.Poll, ShutdownTimeout: w.stop,
		Logger: asynqLog{w.log}, LogLevel: asynq.WarnLevel,
	})
	handler := asynq.HandlerFunc(func(task context.Context, t *asynq.Task) error {
		w.handle(task, ctx, t.Headers()[traceHeader])
		return nil // asynq would archive the task, for months; as one that is done it keeps its id only as long as that is needed
	})
	if err := server.Start(handler); err != nil {
		return fmt.Errorf("start asynq: %w", err)
	}
	_ = lifecycle.Every(ctx, settle*w.task.Interval, func(context.Context) { w.failing.Settle() })
	w.shutDown(server)
	return nil
}

// handle runs the task. task is asynq's context, part that of the worker.
func (w *Worker) handle(task, part context.Context, parent string) { //nolint:revive // two contexts: one from the library, one from the process
	w.running.Lock()
	defer w.running.Unlock()
	task, cancel := context.WithCancel(lifecycle.Within(task, part))
	defer cancel()
	defer context.AfterFunc(part, cancel)()
	task, span := w.tracer.Consumer(task, "task "+w.task.Name, parent)
	defer span.End()
	var err error
	if lifecycle.Caught(task, w.task.Name, func() { err = w.task.Run(task) }) {
		err = errPanic
	}
	tracing.Failed(span, err)
	switch {
	case err == nil:
		w.failing.End()
	case (postgres.IsUnavailable(err) || redisconn.IsUnavailable(err)) && !errors.Is(task.Err(), context.DeadlineExceeded): // an outage of a dependency is no error of this process
		w.failing.Fail(task, err, "task", w.task.Name)
	default:
		w.log.ErrorContext(task, "a periodic task failed; the next run continues", "task", w.task.Name, "error", err)
	}
}

func (w *Worker) shutDown(server *asynq.Server) {
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		server.Shutdown()
	}()
	select {
	case <-stopped:
		return
	case <-time.After(asynqWait):
	}
	w.running.Lock() // a run finishes its work; the rest is asynq, which waits for a Redis that hangs
	defer w.running.Unlock()
	select {
	case <-stopped:
	case <-time.After(asynqWait):
		w.log.Warn("asynq does not stop because redis does not respond; the process exits without it")
	}
}

// asynqLog passes asynq's log to slog, under one message, so that a line a second without Redis is a line a minute. It is about asynq's
// housekeeping: runs that fail are logged on their own.
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
