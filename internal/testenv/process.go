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

// releaseDirVar names a folder with the processes' binaries, built as ReleaseBinary builds them.
const releaseDirVar = "PARLEY_TEST_RELEASE_DIR"

// ReleaseBinary is the path of the process of that name built as the image has it, once per test binary, without the race detector,
// which takes several times the memory, and without fault points.
func ReleaseBinary(t testing.TB, name string) string {
	t.Helper()
	if dir := os.Getenv(releaseDirVar); dir != "" {
		return filepath.Join(dir, name)
	}
	root := Root(t)
	b, _ := builds.LoadOrStore("release "+name, sync.OnceValues(func() (string, error) {
		dir, err := makeDir("bin")
		if err != nil {
			return "", err
		}
		return filepath.Join(dir, name), BuildRelease(root, dir, nil, name)
	}))
	path, err := b.(func() (string, error))()
	if err != nil {
		t.Fatalf("build %s: %v", name, err)
	}
	return path
}

// BuildRelease builds processes of the sources in root into a folder, as the image has them, with further flags. What it compiles is the
// same for all folders of sources, so that Go's cache has it the next time.
func BuildRelease(root, dir string, flags []string, names ...string) error {
	args := append([]string{"build", "-buildvcs=false", "-trimpath", "-ldflags=-s -w", "-o", dir + "/"}, flags...)
	for _, name := range names {
		args = append(args, "./cmd/"+name)
	}
	cmd := exec.Command("go", args...)
	cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

func build(root, name string) (string, error) {
	dir, err := makeDir("bin")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, name)
	args := []string{"build", "-buildvcs=false", "-o", path, "-tags", faultTag}
	if raceEnabled {
		args = append(args, "-race")
	}
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
