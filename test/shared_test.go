package test

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"sync"
	"testing"
)

// shared are systems that several tests use. Such a test makes its own users and looks at nothing else, stops, kills and pauses nothing,
// and reads no total, neither in the database nor of a metric.
var shared struct {
	plain, present sharedSystem
}

// plainSystem is two pods with the default settings, for a test that leaves them alone.
func plainSystem(t *testing.T) *system {
	t.Helper()
	return shared.plain.lend(t, func(tb testing.TB) *system { return start(tb, 2) })
}

// presentSystem is two pods and two watchers with the short times of presence, for a test that leaves them alone.
func presentSystem(t *testing.T) *system {
	t.Helper()
	return shared.present.lend(t, func(tb testing.TB) *system { return presences(tb, 2, 2) })
}

// sharedSystem is started for the first test that needs it and stopped after the last test of the package.
type sharedSystem struct {
	once sync.Once
	s    *system
}

// lend returns the system for one test. The processes' logs are shown if the test fails.
func (x *sharedSystem) lend(t *testing.T, begin func(testing.TB) *system) *system {
	t.Helper()
	x.once.Do(func() {
		done := make(chan struct{})
		go func() { // which Fatalf ends
			defer close(done)
			x.s = begin(&theSuite)
		}()
		<-done
	})
	if x.s == nil {
		t.Fatal("the shared system did not start")
	}
	own := *x.s
	own.t = t
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		for i, p := range own.pods {
			logs := p.Logs()
			t.Logf("pod %d, which other tests use too, printed at last:\n%s", i, logs[max(0, len(logs)-32<<10):])
		}
	})
	return &own
}

var theSuite suite

// suite is what owns the processes that outlive a test: its cleanups run after the last test, and what fails in them fails the run. Its
// embedded TB is nil: only the methods below may be called.
type suite struct {
	testing.TB
	mu       sync.Mutex // guards what follows
	cleanups []func()
	failed   bool
}

func (*suite) Helper()                  {}
func (*suite) Name() string             { return "the suite" }
func (*suite) Context() context.Context { return context.Background() }
func (*suite) Logf(f string, a ...any)  { fmt.Fprintf(os.Stderr, f+"\n", a...) }

func (s *suite) Cleanup(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cleanups = append(s.cleanups, f)
}

func (s *suite) Failed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed
}

func (s *suite) Errorf(f string, a ...any) {
	s.mu.Lock()
	s.failed = true
	s.mu.Unlock()
	s.Logf(f, a...)
}

func (s *suite) Error(a ...any) { s.Errorf("%s", fmt.Sprintln(a...)) }

// Fatalf ends the goroutine that starts the system. The tests that need it find that it did not start.
func (s *suite) Fatalf(f string, a ...any) {
	s.Errorf(f, a...)
	runtime.Goexit()
}

func (s *suite) Fatal(a ...any) { s.Fatalf("%s", fmt.Sprintln(a...)) }

// end runs the cleanups, the last first, and reports whether all was well.
func (s *suite) end() bool {
	for {
		s.mu.Lock()
		n := len(s.cleanups)
		if n == 0 {
			s.mu.Unlock()
			return !s.Failed()
		}
		f := s.cleanups[n-1]
		s.cleanups = s.cleanups[:n-1]
		s.mu.Unlock()
		f()
	}
}

func TestMain(m *testing.M) {
	code := m.Run()
	if !theSuite.end() && code == 0 {
		code = 1
	}
	os.Exit(code)
}
