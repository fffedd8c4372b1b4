package testenv

import (
	"fmt"
	"math"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// Limit is how long a test waits for something before it fails. On an idle machine that is the given time. On a busy one, where the
// process under test gets only a share of a CPU or waits for the disk, it is as much longer: a limit is about Parley, not about the
// machine. One goroutine may use it.
type Limit struct {
	given time.Duration
	begun time.Time
}

// NewLimit is a limit that begins now.
func NewLimit(d time.Duration) *Limit { return &Limit{given: d, begun: time.Now()} }

// Over reports whether the time is up.
func (l *Limit) Over() bool {
	took := time.Since(l.begun)
	return took >= l.given && took >= stretched(l.given, machineLoad())
}

// Check is a channel for a select: whenever it fires, ask Over and, if that is false, select again with a new one.
func (l *Limit) Check() <-chan time.Time {
	return time.After(max(time.Until(l.begun.Add(l.given)), 50*time.Millisecond))
}

// pause is how long to wait before the next try: a twentieth of the time that passed, from 5 to 200 ms. A condition that costs something, such
// as a scrape of metrics, leaves the CPU to the process that is waited for.
func (l *Limit) pause() time.Duration {
	return min(max(time.Since(l.begun)/20, 5*time.Millisecond), 200*time.Millisecond)
}

// String is the time that was given and the time that passed.
func (l *Limit) String() string {
	return fmt.Sprintf("%s (waited %s)", l.given, time.Since(l.begun).Round(time.Millisecond))
}

// Receive waits for a value of the channel, and fails the test when there is none within the time, which is a Limit's. It returns the zero
// value of a channel that is closed.
func Receive[T any](t testing.TB, c <-chan T, timeout time.Duration, format string, args ...any) T {
	t.Helper()
	for limit := NewLimit(timeout); ; {
		select {
		case v := <-c:
			return v
		case <-limit.Check():
			if limit.Over() {
				t.Fatalf("not within %s: %s", limit, fmt.Sprintf(format, args...))
			}
		}
	}
}

// load says how busy the machine is.
type load struct {
	tasks   float64 // runnable and disk-bound tasks for each CPU, over the last minute
	cpu, io float64 // per cent of the last 10 s in which some task waited for a CPU or for the disk; 0 if the kernel does not report it
}

// slowest bounds the stretch, so that a test that hangs ends.
const slowest = 20

// stretched is the limit under the load. The kernel's mean over a minute lags behind a burst, so pressure counts as well.
func stretched(d time.Duration, l load) time.Duration {
	factor := max(1, l.tasks)
	if l.cpu >= 20 || l.io >= 20 {
		factor = max(4, factor+1)
	}
	return time.Duration(float64(d) * math.Min(factor, slowest))
}

func machineLoad() load {
	var l load
	b, _ := os.ReadFile("/proc/loadavg")
	if _, err := fmt.Sscan(string(b), &l.tasks); err != nil {
		return load{}
	}
	l.tasks /= float64(runtime.NumCPU())
	l.cpu, l.io = pressure("cpu"), pressure("io")
	return l
}

// pressure reads the mean over 10 s from /proc/pressure.
func pressure(of string) float64 {
	b, _ := os.ReadFile("/proc/pressure/" + of)
	_, rest, _ := strings.Cut(string(b), "some avg10=")
	var v float64
	if _, err := fmt.Sscan(rest, &v); err != nil {
		return 0
	}
	return v
}
