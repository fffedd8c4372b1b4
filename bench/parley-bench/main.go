// Parley-bench loads a deployment of Parley as its users would, holds every delivery against what was acknowledged, and
// measures latencies. docs/benchmarking.md shows its use.
package main

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// What the process exits with.
const (
	exitOK        = 0
	exitViolation = 1 // a promise was broken
	exitFault     = 2 // nothing was measured
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second one ends the process at once
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run is main. The results go to out, all else to log.
func run(ctx context.Context, args []string, out, log io.Writer) int {
	s, err := parse(args, log)
	if err == nil && s.Scenario == "cleanup" {
		err = cleanCommand(ctx, s, log)
		s = nil
	}
	var r *results
	if err == nil && s != nil {
		r, err = newBench(s, log).measure(ctx)
	}
	if r != nil && err == nil {
		err = r.write(s, out)
	}
	switch {
	case errors.Is(err, flag.ErrHelp):
		return exitOK
	case errors.Is(err, errUsage):
		return exitFault
	case err != nil:
		_, _ = fmt.Fprintf(log, "parley-bench: %v\n", err)
		return exitFault
	case r != nil && r.Verdict != verdictOK:
		return exitViolation
	}
	return exitOK
}

func cleanCommand(ctx context.Context, s *settings, log io.Writer) error {
	db, err := sql.Open("pgx", s.databaseURL)
	if err != nil {
		return fmt.Errorf("--database-url: %w", err)
	}
	defer db.Close()
	n, err := cleanUp(ctx, db, s.Prefix)
	if err == nil {
		_, _ = fmt.Fprintf(log, "%d users are removed, with all their groups and messages\n", n)
	}
	return err
}

// measure prepares, loads, proves and cleans up.
func (b *bench) measure(ctx context.Context) (r *results, err error) {
	what := find(b.Scenario)
	if err := b.descriptors(what.users(b.settings)); err != nil {
		return nil, err
	}
	load, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	b.fail = fail
	if err := b.probe(ctx); err != nil {
		return nil, err
	}
	if _, err := b.scrape(ctx); err != nil {
		return nil, err
	}
	if err := b.writable(); err != nil {
		return nil, err
	}
	defer func() {
		b.closeAll()
		if b.Cleanup && b.made != nil {
			b.say("cleaning up")
			err = errors.Join(err, b.made.clean(context.WithoutCancel(ctx)))
		}
	}()
	if err := b.prepare(load, what); err != nil {
		return nil, fault(load, err)
	}
	before, err := b.scrape(ctx)
	if err != nil {
		return nil, err
	}
	cpu, _ := used()
	b.stats.begin(b.Warmup)
	stop := b.progress()
	err = what.load(load, b)
	end := time.Now()
	if f := fault(load, err); f != nil && !(errors.Is(f, context.Canceled) && ctx.Err() != nil) {
		stop()
		return nil, f
	}
	b.drain()
	stop()
	b.prove()
	after, err := b.scrape(context.WithoutCancel(ctx))
	if err != nil {
		b.say("%v", err)
	}
	r = b.results(end, before, after)
	r.Load.CPUSeconds, r.Load.MemoryMiB = used()
	r.Load.CPUSeconds -= cpu
	r.Interrupted = ctx.Err() != nil
	return r, nil //nolint:nilerr // the figures of a pod that is gone are left out
}

// fault is why the load ended early: what was found to be wrong with it rather than the end of its context.
func fault(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

func (b *bench) prepare(ctx context.Context, what *scenario) (err error) {
	b.made = &registrar{b: b}
	if b.Seeded {
		s, err := openSeeder(ctx, b)
		if err != nil {
			return err
		}
		b.made = s
	}
	n := what.users(b.settings)
	b.say("making %d users, named %s%s_…", n, b.Prefix, b.run)
	if b.people, err = b.made.people(ctx, n); err != nil {
		return err
	}
	if err := b.recognised(ctx, b.people[0]); err != nil {
		return err
	}
	b.say("preparing %s", what.name)
	return what.prepare(ctx, b)
}

// progress prints a line a second. The answer ends that.
func (b *bench) progress() (stop func()) {
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		t := time.NewTicker(time.Second)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				b.say("%s", b.stats.tick().line())
			case <-quit:
				b.stats.tick()
				return
			}
		}
	}()
	return func() {
		close(quit)
		<-done
	}
}

// used is what this process has used: seconds of CPU, and MiB of memory at most.
func used() (seconds, memory float64) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0, 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds(), float64(u.Maxrss) / 1024
}
