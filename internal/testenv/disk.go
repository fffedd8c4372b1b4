package testenv

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// Disk is a small file system that a test may fill. Where mounting one is not permitted, as in a container without privileges, it is a folder,
// and a library in the programs that use it (fullSource) fails the writes that would need room.
type Disk struct {
	// Path is its folder. It belongs to the user that servers run as.
	Path string
	t    testing.TB
	// library is what programs have to load; "" if a file system was mounted. full exists while it is full.
	library, full string
}

// NewDisk mounts a file system of so many megabytes. It is gone after the test.
func NewDisk(t testing.TB, megabytes int) *Disk {
	t.Helper()
	dir := tempDir(t, "disk")
	d := &Disk{Path: filepath.Join(dir, mountPoint), t: t}
	if err := os.Mkdir(d.Path, 0o755); err != nil { //nolint:gosec // another user gets in
		t.Fatal(err)
	}
	err := syscall.Mount("parley-test", d.Path, "tmpfs", 0, fmt.Sprintf("size=%dm", megabytes))
	if err == nil {
		t.Cleanup(func() { _ = syscall.Unmount(d.Path, syscall.MNT_DETACH) })
	} else {
		t.Logf("a file system can't be mounted (%v): a library fails the writes instead", err)
		d.library, d.full = filepath.Join(dir, "full.so"), filepath.Join(dir, "full")
		d.build()
	}
	for _, folder := range []string{dir, d.Path} {
		if _, err := unprivileged(folder); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

// Fill leaves no byte free.
func (d *Disk) Fill() {
	d.t.Helper()
	if d.full != "" {
		if err := os.WriteFile(d.full, nil, 0o644); err != nil { //nolint:gosec // another user looks for it
			d.t.Fatal(err)
		}
		return
	}
	f, err := os.Create(d.filler())
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	if !errors.Is(err, syscall.ENOSPC) {
		d.t.Fatal(err)
	}
}

// Free makes room again.
func (d *Disk) Free() {
	d.t.Helper()
	name := d.full
	if name == "" {
		name = d.filler()
	}
	if err := os.Remove(name); err != nil {
		d.t.Fatal(err)
	}
}

func (d *Disk) filler() string { return filepath.Join(d.Path, "filler") }

// env is what programs that use the disk have in their environment.
func (d *Disk) env() []string {
	if d.library == "" {
		return nil
	}
	return []string{"LD_PRELOAD=" + d.library, "PARLEY_TEST_DISK=" + d.Path, "PARLEY_TEST_DISK_FULL=" + d.full}
}

func (d *Disk) build() {
	source := d.library + ".c"
	if err := os.WriteFile(source, []byte(fullSource), 0o600); err != nil {
		d.t.Fatal(err)
	}
	if out, err := exec.Command("cc", "-shared", "-fPIC", "-O1", "-o", d.library, source, "-ldl").CombinedOutput(); err != nil { //nolint:gosec // fixed
		d.t.Skipf("no file system can be mounted, and no library built that fails writes: %v: %s", err, out)
	}
}

// fullSource fails writes to files below PARLEY_TEST_DISK that would make them longer, while PARLEY_TEST_DISK_FULL exists.
const fullSource = `#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static int full(int fd, off_t end) {
	const char *flag = getenv("PARLEY_TEST_DISK_FULL"), *disk = getenv("PARLEY_TEST_DISK");
	char link[64], path[4096];
	struct stat st;
	if (!flag || !disk || access(flag, F_OK)) { errno = 0; return 0; }
	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	ssize_t n = readlink(link, path, sizeof path - 1);
	if (n < 0) return 0;
	path[n] = 0;
	if (strncmp(path, disk, strlen(disk)) || fstat(fd, &st) || !S_ISREG(st.st_mode) || end <= st.st_size) return 0;
	errno = ENOSPC;
	return 1;
}
static off_t sum(const struct iovec *v, int n) { off_t s = 0; while (n--) s += v[n].iov_len; return s; }
#define REAL(name, type) static __typeof__(type) *real; if (!real) real = (__typeof__(type) *)dlsym(RTLD_NEXT, name)
#define WRITE(name) ssize_t name(int fd, const void *b, size_t n, off_t at) { \
	REAL(#name, ssize_t(int, const void *, size_t, off_t)); return full(fd, at + n) ? -1 : real(fd, b, n, at); }
#define WRITEV(name) ssize_t name(int fd, const struct iovec *v, int n, off_t at) { \
	REAL(#name, ssize_t(int, const struct iovec *, int, off_t)); return full(fd, at + sum(v, n)) ? -1 : real(fd, v, n, at); }
#define ALLOCATE(name) int name(int fd, off_t at, off_t n) { \
	REAL(#name, int(int, off_t, off_t)); return full(fd, at + n) ? ENOSPC : real(fd, at, n); }
WRITE(pwrite) WRITE(pwrite64) WRITEV(pwritev) WRITEV(pwritev64) ALLOCATE(posix_fallocate) ALLOCATE(posix_fallocate64)
ssize_t write(int fd, const void *b, size_t n) {
	REAL("write", ssize_t(int, const void *, size_t));
	off_t at = lseek(fd, 0, SEEK_CUR);
	return at >= 0 && full(fd, at + n) ? -1 : real(fd, b, n);
}
`
