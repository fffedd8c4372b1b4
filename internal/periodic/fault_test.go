package periodic_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/parley-chat/parley/internal/periodic"
	"github.com/parley-chat/parley/internal/testenv"
	"github.com/parley-chat/parley/internal/tracing"
)

// process runs the schedule and the worker of a task, and returns its log and its stop.
func process(t *testing.T, rdb redis.UniversalClient, task periodic.Task) (out *testenv.Output, stop func()) {
	t.Helper()
	out = &testenv.Output{}
	log := slog.New(slog.NewTextHandler(out, nil))
	tracer, err := tracing.Start(t.Context(), "test", "test", false, log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var g sync.WaitGroup
	g.Go(func() { _ = periodic.NewSchedule(task, rdb, tracer, log).Run(ctx) })
	g.Go(func() { _ = periodic.NewWorker(task, rdb, 10*time.Second, tracer, log).Run(ctx) })
	stop = sync.OnceFunc(func() {
		cancel()
		g.Wait()
		tracer.Close()
	})
	t.Cleanup(stop)
	return out, stop
}

func secondly(run func(ctx context.Context) error) periodic.Task {
	return periodic.Task{Name: "test:task", Queue: "test", Interval: time.Second, Timeout: time.Minute, Poll: 20 * time.Millisecond, Run: run}
}

// A run that panics, or fails for a reason of its own, is an error of the log each time, and the next interval has its run.
func TestARunThatPanicsOrFailsIsLoggedAndFollowed(t *testing.T) {
	t.Parallel()
	var runs atomic.Int64
	out, _ := process(t, testenv.Redis(t).Client(t), secondly(func(context.Context) error {
		switch runs.Add(1) {
		case 1:
			panic("a bug")
		case 2:
			return errors.New("a wrong statement")
		}
		return nil
	}))
	testenv.Eventually(t, time.Minute, func() bool { return runs.Load() >= 3 }, "the third run")
	for _, line := range []string{`error="the task panicked"`, `error="a wrong statement"`} {
		if out.Count(line) == 0 {
			t.Errorf("the log has no %s:\n%s", line, out)
		}
	}
	if n := out.Count("the periodic task succeeds again"); n > 0 {
		t.Error("an error of the task is logged as an outage")
	}
}

// While Redis is unavailable every missed tick is counted and one line is logged; afterwards the task runs again.
func TestTicksThatRedisDidNotAcceptAreCounted(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	var runs, missed atomic.Int64
	task := secondly(func(context.Context) error { runs.Add(1); return nil })
	task.Missed = func() { missed.Add(1) }
	out, _ := process(t, server.Client(t), task)
	testenv.Eventually(t, time.Minute, func() bool { return runs.Load() > 0 }, "the first run")
	server.Stop()
	testenv.Eventually(t, time.Minute, func() bool { return missed.Load() >= 3 }, "ticks are missed")
	if n := out.Count("redis does not accept the next task"); n != 1 {
		t.Errorf("%d lines for one outage:\n%s", n, out)
	}
	before := runs.Load()
	server.Start()
	testenv.Eventually(t, time.Minute, func() bool { return runs.Load() > before }, "it runs again")
}

// A stop ends the context of a run at work, and waits until the run has returned.
func TestAStopWaitsForTheRun(t *testing.T) {
	t.Parallel()
	begun := make(chan struct{})
	var ended atomic.Bool
	_, stop := process(t, testenv.Redis(t).Client(t), secondly(func(ctx context.Context) error {
		close(begun)
		<-ctx.Done()
		time.Sleep(100 * time.Millisecond) // what a run does at its end
		ended.Store(true)
		return ctx.Err()
	}))
	testenv.Receive(t, begun, time.Minute, "a run")
	stop()
	if !ended.Load() {
		t.Error("the worker stopped before its run")
	}
}
