package testenv

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// child is a process that dies with the test binary. Its output goes to a file in its folder.
type child struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{} // closed when the process is gone
}

// startChild starts the command. onOrphan is the signal that the kernel sends it when the test binary dies.
func startChild(cmd *exec.Cmd, dir string, onOrphan syscall.Signal) (*child, error) {
	c := &child{cmd: cmd, log: filepath.Join(dir, "log"), done: make(chan struct{})}
	out, err := os.OpenFile(c.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644) //nolint:gosec // a test's own folder
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = onOrphan
	started := make(chan error)
	starter() <- func() { started <- cmd.Start() }
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	go c.wait()
	return c, nil
}

func (c *child) wait() {
	_ = c.cmd.Wait() // how it ended is in cmd.ProcessState
	close(c.done)
}

func (c *child) gone() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

func (c *child) output() string {
	b, err := os.ReadFile(c.log)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// end sends the signal and waits until the process is gone. It wakes a process that is paused.
func (c *child) end(s syscall.Signal) {
	if c.gone() {
		return
	}
	_ = c.cmd.Process.Signal(s)
	c.resume()
	<-c.done
}

// pause stops the process and its children where they are, and waits until none of their threads runs: on a busy machine some run on for a
// while.
func (c *child) pause() {
	pid := c.cmd.Process.Pid
	signalTree(pid, syscall.SIGSTOP)
	for limit := NewLimit(10 * time.Second); !limit.Over() && !stopped(pid); {
		time.Sleep(time.Millisecond)
	}
}

// stopped reports whether no thread of a process and its children runs, by /proc. A process that is gone counts as stopped.
func stopped(pid int) bool {
	for _, p := range append(children(pid), pid) {
		threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p))
		for _, file := range threads {
			b, err := os.ReadFile(file)
			if err != nil {
				continue
			}
			if _, state, found := strings.Cut(string(b), ") "); found && !strings.ContainsAny(state[:1], "TtZX") { // pid (name) state …
				return false
			}
		}
	}
	return true
}

func (c *child) resume() { signalTree(c.cmd.Process.Pid, syscall.SIGCONT) }

// signalTree signals the parent first: paused, it makes no more children.
func signalTree(pid int, s syscall.Signal) {
	_ = syscall.Kill(pid, s)
	for _, c := range children(pid) {
		_ = syscall.Kill(c, s)
	}
}

// children are the processes whose parent is pid, from /proc.
func children(pid int) []int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return nil
	}
	var out []int
	for _, f := range strings.Fields(string(b)) {
		var c int
		if _, err := fmt.Sscan(f, &c); err == nil {
			out = append(out, c)
		}
	}
	return out
}

// starter starts children from one locked thread: their death signal follows the thread that forked, not the process.
var starter = sync.OnceValue(func() chan func() {
	c := make(chan func())
	go serveStarts(c)
	return c
})

func serveStarts(c chan func()) {
	runtime.LockOSThread()
	for f := range c {
		f()
	}
}
