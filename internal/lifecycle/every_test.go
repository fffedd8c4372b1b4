package lifecycle_test

import (
	"bufio"
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-chat/parley/internal/lifecycle"
)

// Calls that take longer than the interval delay later ones and don't overlap.
func TestEverySkipsIntervalsDuringACall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		begun, running := time.Now(), 0
		var at []time.Duration
		err := lifecycle.Every(ctx, time.Second, func(context.Context) {
			if running++; running > 1 {
				t.Error("two calls at once")
			}
			at = append(at, time.Since(begun))
			switch len(at) {
			case 1:
				time.Sleep(3500 * time.Millisecond)
			case 4:
				cancel()
			}
			running--
		})
		// The interval that passed first during the call is made up for at its end, the others are skipped.
		want := []time.Duration{time.Second, 4500 * time.Millisecond, 5 * time.Second, 6 * time.Second}
		if err != nil || len(at) != len(want) {
			t.Fatalf("calls at %v, %v", at, err)
		}
		for i := range want {
			if at[i] != want[i] {
				t.Errorf("calls at %v, want %v", at, want)
				break
			}
		}
	})
}

func TestAGateStaysClosed(t *testing.T) {
	t.Parallel()
	var g lifecycle.Gate
	if g.Closed() {
		t.Error("a new gate is closed")
	}
	for range 2 {
		if g.Close(); !g.Closed() {
			t.Error("a closed gate is open")
		}
	}
}

// Without a part, panics of a loop are caught as often as those of a part, but the process goes on.
func TestALoopOutsideOfAPartReturnsItsPanics(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		runs := 0
		err := lifecycle.Keep(t.Context(), "stray", func(context.Context) error { runs++; panic("oh") })
		if !errors.Is(err, lifecycle.ErrPanics) || !strings.HasPrefix(err.Error(), "stray: ") || runs < 2 {
			t.Errorf("Keep = %v after %d runs", err, runs)
		}
	})
}

// A loop whose context comes from elsewhere is attributed to the part whose context Within adds.
func TestWithinAttributesPanicsToThePart(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	c := config()
	panics := count(&c)
	type key struct{}
	err := lifecycle.Run(ctx, c, lifecycle.Part{Name: "part", Run: func(part context.Context) error {
		other := lifecycle.Within(context.WithValue(context.Background(), key{}, 1), part)
		if other.Value(key{}) != 1 {
			t.Error("the context's values are lost")
		}
		if !lifecycle.Caught(other, "loop", func() { panic("oh") }) || lifecycle.Caught(other, "loop", func() {}) {
			t.Error("Caught reports the wrong one of a panic and a return")
		}
		cancel()
		<-part.Done()
		return nil
	}})
	if err != nil || panics("part") != 1 {
		t.Errorf("Run = %v, %v panics of the part", err, panics("part"))
	}
}

// TestSignalsHelper is the process that the test below signals.
func TestSignalsHelper(*testing.T) {
	if os.Getenv("PARLEY_TEST_SIGNALS") == "" {
		return
	}
	ctx, cancel := lifecycle.Signals(slog.New(slog.NewTextHandler(os.Stdout, nil)))
	defer cancel()
	_, _ = os.Stdout.WriteString("listening\n")
	<-ctx.Done()
	_, _ = os.Stdout.WriteString("ended\n")
	select {} // a stop that hangs
}

// The first signal ends the context, so that the process can stop in order; a second one ends a process whose stop hangs.
func TestTheSecondSignalEndsTheProcess(t *testing.T) {
	t.Parallel()
	for _, signals := range [][2]syscall.Signal{{syscall.SIGTERM, syscall.SIGTERM}, {syscall.SIGINT, syscall.SIGTERM}} {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestSignalsHelper$")
		cmd.Env = append(os.Environ(), "PARLEY_TEST_SIGNALS=1")
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		await := func(text string) {
			t.Helper()
			for lines.Scan() {
				if strings.Contains(lines.Text(), text) {
					return
				}
			}
			t.Errorf("the process never wrote %q", text)
		}
		await("listening")
		_ = cmd.Process.Signal(signals[0])
		await("signal=" + signals[0].String())
		await("ended")
		_ = cmd.Process.Signal(signals[1])
		await("stopped at once by a second signal")
		for lines.Scan() {
			continue
		}
		var exit *exec.ExitError
		if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 1 {
			t.Errorf("after %v: %v", signals, err)
		}
	}
}
