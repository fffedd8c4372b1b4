package periodic_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/parley-chat/parley/internal/periodic"
	"github.com/parley-chat/parley/internal/testenv"
	"github.com/parley-chat/parley/internal/tracing"
)

// Three processes schedule and run a task, of which every second run fails: no interval has two runs, and none is kept from running
// by the one before.
func TestATaskRunsOnceAnInterval(t *testing.T) {
	t.Parallel()
	const processes, runs = 3, 6
	rdb := testenv.Redis(t).Client(t)
	log := slog.New(slog.DiscardHandler)
	tracer, err := tracing.Start(t.Context(), "test", "test", false, log)
	if err != nil {
		t.Fatal(err)
	}
	defer tracer.Close()
	var count atomic.Int64
	ran := make(chan struct{}, 10*runs)
	task := periodic.Task{Name: "test:task", Queue: "test", Interval: time.Second, Timeout: time.Minute, Poll: 20 * time.Millisecond}
	task.Run = func(context.Context) error {
		ran <- struct{}{}
		if count.Add(1)%2 == 0 {
			return errors.New("every second run fails")
		}
		return nil
	}
	interval := func() int64 {
		now, err := rdb.Time(t.Context()).Result()
		if err != nil {
			t.Fatal(err)
		}
		return now.UnixNano() / int64(task.Interval)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	first := interval()
	for range processes {
		wg.Go(func() { _ = periodic.NewSchedule(task, rdb, tracer, log).Run(ctx) })
		wg.Go(func() { _ = periodic.NewWorker(task, rdb, time.Second, tracer, log).Run(ctx) })
	}
	for range runs {
		select {
		case <-ran:
		case <-time.After(time.Minute):
			t.Fatal("it does not run any more")
		}
	}
	last := interval()
	cancel()
	wg.Wait()
	if n := count.Load(); n > last-first+1 {
		t.Errorf("%d runs in %d intervals", n, last-first+1)
	}
	info, err := asynq.NewInspectorFromRedisClient(rdb).GetQueueInfo("test")
	if err != nil || info.Archived != 0 || info.Retry != 0 {
		t.Errorf("asynq keeps what failed: %+v, %v", info, err)
	}
}

// reply is an error that Redis replies with.
type reply string

func (r reply) Error() string { return string(r) }
func (reply) RedisError()     {}

// A Redis that fails over is two lines of the log, however many runs fail, also if another worker makes the first run that succeeds.
func TestAFailoverOfRedisIsAnOutage(t *testing.T) {
	t.Parallel()
	rdb := testenv.Redis(t).Client(t)
	out := &testenv.Output{}
	log := slog.New(slog.NewTextHandler(out, nil))
	tracer, err := tracing.Start(t.Context(), "test", "test", false, log)
	if err != nil {
		t.Fatal(err)
	}
	defer tracer.Close()
	errs := make(chan error, 3)
	for _, e := range []reply{"LOADING Redis is loading the dataset in memory", "READONLY You can't write against a read only replica.", "CLUSTERDOWN The cluster is down"} {
		errs <- fmt.Errorf("flush: %w", e)
	}
	schedule, cancel := context.WithCancel(t.Context())
	task := periodic.Task{Name: "test:task", Queue: "test", Interval: time.Second, Timeout: time.Minute, Poll: 20 * time.Millisecond}
	task.Run = func(context.Context) error {
		select {
		case err := <-errs:
			return err
		default:
			cancel() // other workers make the further runs
			return fmt.Errorf("flush: %w", reply("LOADING Redis is loading the dataset in memory"))
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = periodic.NewSchedule(task, rdb, tracer, log).Run(schedule) })
	wg.Go(func() { _ = periodic.NewWorker(task, rdb, time.Second, tracer, log).Run(ctx) })
	testenv.Eventually(t, time.Minute, func() bool { return out.Count("the periodic task succeeds again") > 0 }, "the outage ends")
	stop()
	wg.Wait()
	if begun, failed := out.Count("a periodic task failed"), out.Count("level=ERROR"); begun != 1 || failed > 0 {
		t.Errorf("%d lines, %d of them errors:\n%s", begun, failed, out)
	}
}

// asynq sleeps between two polls, also while it stops: a worker whose process ends meanwhile would be abandoned.
func TestAPollMayNotOutlastAStop(t *testing.T) {
	t.Parallel()
	task := periodic.Task{Name: "test:task", Queue: "test", Interval: time.Minute, Timeout: time.Minute, Poll: 5 * time.Second}
	if err := periodic.NewWorker(task, testenv.Redis(t).Client(t), time.Second, nil, slog.New(slog.DiscardHandler)).Run(t.Context()); err == nil {
		t.Error("a poll of five seconds is accepted")
	}
}
