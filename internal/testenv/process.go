package testenv

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// binDirVar names a folder with the processes' binaries, built as Binary builds them.
const binDirVar = "PARLEY_TEST_BIN_DIR"

// faultTag is the build tag of the binaries that tests start: with it they have the points of package fault.
const faultTag = "faultpoints"

// builds has a build for each name.
var builds sync.Map

// Binary is the path of the process of that name in cmd/, built once per test binary, with the race detector where the
// test has it.
func Binary(t testing.TB, name string) string {
	t.Helper()
	if dir := os.Getenv(binDirVar); dir != "" {
		return filepath.Join(dir, name)
	}
	root := Root(t)
	b, _ := builds.LoadOrStore(name, sync.OnceValues(func() (string, error) { return build(root, name) }))
	path, err := b.(func() (string, error))()
	if err != nil {
		t.Fatalf("build %s: %v", name, err)
	}
	return path
}

// ReleaseBinary is the path of the process of that name built as the image has it, without the race detector, which takes several
// times the memory, and without fault points.
func ReleaseBinary(t testing.TB, name string) string {
	t.Helper()
	path, err := buildWith(Root(t), name)
	if err != nil {
		t.Fatalf("build %s: %v", name, err)
	}
	return path
}

func build(root, name string) (string, error) {
	flags := []string{"-tags", faultTag}
	if raceEnabled {
		flags = append(flags, "-race")
	}
	return buildWith(root, name, flags...)
}

func buildWith(root, name string, flags ...string) (string, error) {
	dir, err := makeDir("bin")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, name)
	args := append([]string{"build", "-buildvcs=false", "-o", path}, flags...)
	cmd := exec.Command("go", append(args, "./cmd/"+name)...)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return path, nil
}

// Process is a process of Parley's that a test started.
type Process struct {
	t     testing.TB
	name  string
	child *child
}

// Start starts the program. Of the test's environment it gets all but Parley's settings, and then env. When the test ends
// it is killed; what it printed is shown where the test failed, and a data race that it reported fails the test.
func Start(t testing.TB, path string, args, env []string) *Process {
	t.Helper()
	cmd := exec.Command(path, args...)
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "PARLEY_") {
			cmd.Env = append(cmd.Env, e)
		}
	}
	cmd.Env = append(cmd.Env, env...)
	c, err := startChild(cmd, tempDir(t, "process"), syscall.SIGKILL)
	if err != nil {
		t.Fatal(err)
	}
	p := &Process{t: t, name: filepath.Base(path), child: c}
	t.Cleanup(p.finish)
	return p
}

func (p *Process) finish() {
	p.Kill()
	if strings.Contains(p.Logs(), "WARNING: DATA RACE") {
		p.t.Errorf("%s reported a data race", p.name)
	}
	if p.t.Failed() {
		p.t.Logf("%s printed:\n%s", p.name, p.Logs())
	}
}

// PID is the process's.
func (p *Process) PID() int { return p.child.cmd.Process.Pid }

// Signal sends a signal to a process that may be gone.
func (p *Process) Signal(s syscall.Signal) { _ = p.child.cmd.Process.Signal(s) }

// Kill ends it at once and waits until it is gone.
func (p *Process) Kill() { p.child.end(syscall.SIGKILL) }

// Pause makes it hang.
func (p *Process) Pause() { p.child.pause() }

// Resume ends the hang.
func (p *Process) Resume() { p.child.resume() }

// Done is closed when the process is gone.
func (p *Process) Done() <-chan struct{} { return p.child.done }

// Wait waits until the process exits and returns its exit code, -1 if a signal ended it.
func (p *Process) Wait(timeout time.Duration) int {
	p.t.Helper()
	limit := NewLimit(timeout)
	for {
		select {
		case <-p.child.done:
			return p.child.cmd.ProcessState.ExitCode()
		case <-limit.Check():
			if limit.Over() {
				p.t.Fatalf("%s did not end within %s", p.name, limit)
			}
		}
	}
}

// Logs is what it printed so far.
func (p *Process) Logs() string { return p.child.output() }
