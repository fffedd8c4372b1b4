package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const redisPause = 10 * time.Second

var (
	errNoRedis = errors.New("this Redis was not started here")
	errStopped = errors.New("it is stopped already")
)

// faults are what the page can do to the processes of `make run`.
type faults struct {
	dir   string
	redis string
	pause time.Duration

	mu sync.Mutex
	// timer runs while Redis is stopped. It is guarded by mu.
	timer *time.Timer
}

// kill ends a process outright. `make run` starts it again, and finds by the file beside its id that it was killed on purpose.
func (f *faults) kill(name string) error {
	pid, err := f.pid(name)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(f.dir, name+".killed"), nil, 0o600); err != nil {
		return err
	}
	return syscall.Kill(pid, syscall.SIGKILL)
}

func (f *faults) pid(name string) (int, error) {
	b, err := os.ReadFile(filepath.Join(f.dir, name+".pid"))
	if err != nil {
		return 0, fmt.Errorf("%s is not running: %w", name, err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || pid <= 1 {
		return 0, fmt.Errorf("the id of %s is %q", name, b)
	}
	return pid, nil
}

func (f *faults) canStopRedis() bool { return f.redis != "" }

// stopRedis freezes Redis and lets it go on after a while.
func (f *faults) stopRedis() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.canStopRedis() {
		return errNoRedis
	}
	if f.timer != nil {
		return errStopped
	}
	if err := f.signal(true); err != nil {
		return err
	}
	f.timer = time.AfterFunc(f.pause, f.end)
	return nil
}

func (f *faults) redisStopped() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.timer != nil
}

// end lets Redis go on, if it is stopped.
func (f *faults) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.timer == nil {
		return
	}
	f.timer.Stop()
	f.timer = nil
	if err := f.signal(false); err != nil {
		fmt.Fprintln(os.Stderr, "playground: Redis stays stopped:", err)
	}
}

func (f *faults) signal(stop bool) error {
	if container, ok := strings.CutPrefix(f.redis, "container:"); ok {
		verb := "unpause"
		if stop {
			verb = "pause"
		}
		out, err := exec.Command("docker", verb, container).CombinedOutput() //nolint:noctx,gosec // the container that make run names
		if err != nil {
			return fmt.Errorf("docker %s: %w: %s", verb, err, out)
		}
		return nil
	}
	pid, err := f.pid("redis")
	if err != nil {
		return err
	}
	if stop {
		return syscall.Kill(pid, syscall.SIGSTOP)
	}
	return syscall.Kill(pid, syscall.SIGCONT)
}
