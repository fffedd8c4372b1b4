package testenv

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
)

// janitorScript reads folders until its input ends, which it does when the test binary is gone, and removes them. A server
// that is still shutting down may write once more: then it tries again. A file system that is mounted on mountPoint goes first.
const janitorScript = `
while IFS= read -r dir; do set -- "$@" "$dir"; done
for dir; do [ ! -d "$dir/` + mountPoint + `" ] || umount -l "$dir/` + mountPoint + `" 2>/dev/null; done
for try in 1 2 3 4 5 6 7 8 9 10; do
	rm -rf -- "$@" && exit
	sleep 0.5
done`

// mountPoint is the name of a folder in a test's folder on which a file system may be mounted.
const mountPoint = "mounted"

// janitor is the input of a process that outlives the test binary, since no cleanup runs when that is killed or times out.
var janitor = sync.OnceValues(func() (io.Writer, error) {
	cmd := exec.Command("sh", "-c", janitorScript)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is not for it
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	return in, cmd.Start()
})

var janitorMu sync.Mutex // guards writes to the janitor

// Dir makes a directory that is removed at the latest when the test binary is gone.
func Dir(name string) (string, error) { return makeDir(name) }

func makeDir(name string) (string, error) {
	janitorMu.Lock()
	defer janitorMu.Unlock()
	w, err := janitor()
	if err != nil {
		return "", fmt.Errorf("start the janitor: %w", err)
	}
	dir, err := os.MkdirTemp("", "parley-test-"+name+"-")
	if err != nil {
		return "", err
	}
	_, err = fmt.Fprintln(w, dir)
	return dir, err
}

// tempDir is a folder that unprivileged servers can be given, gone after the test.
func tempDir(t testing.TB, name string) string {
	t.Helper()
	dir, err := makeDir(name)
	if err != nil {
		t.Fatalf("make a folder: %v", err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}
