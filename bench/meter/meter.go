// Package meter reads what processes use, and the sizes of benchmarks from the environment.
package meter

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Size is a size from the environment, PARLEY_BENCH_ before its name, or its default.
func Size(b *testing.B, name string, normal int) int {
	b.Helper()
	v := os.Getenv("PARLEY_BENCH_" + name)
	if v == "" {
		return normal
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		b.Fatalf("PARLEY_BENCH_%s: %v", name, err)
	}
	return n
}

// CPU is what a process and its children have used, those that ended too, in seconds.
func CPU(pid int) float64 {
	sum := ticks(pid, 11, 15)
	raw, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	for _, c := range strings.Fields(string(raw)) {
		child, _ := strconv.Atoi(c)
		sum += ticks(child, 11, 13)
	}
	return sum / 100
}

// Own is what this process has used, without its children, in seconds.
func Own() float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0 // it can't be: the pointer is good
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
}

// ticks adds fields of /proc/PID/stat, counted after the name: 11 and 12 are user and system time, 13 and 14 of children.
func ticks(pid, from, to int) (sum float64) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0 // it ended: its parent counts it
	}
	f := strings.Fields(string(raw[strings.LastIndexByte(string(raw), ')')+2:]))
	for _, v := range f[from:to] {
		t, _ := strconv.ParseFloat(v, 64)
		sum += t
	}
	return sum
}

// RSS is a process's resident memory, in KiB.
func RSS(b *testing.B, pid int) float64 {
	b.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(raw), "VmRSS:")
	f := strings.Fields(rest)
	n, err := strconv.ParseFloat(f[0], 64)
	if err != nil {
		b.Fatal(err)
	}
	return n
}
