package bench

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// keep stores one of the first pod's profiles under the benchmark's name, where profiles are wanted.
func (s *system) keep(b *testing.B, profile, query string) {
	b.Helper()
	s.keepAs(b, profile, profile, query)
}

// keepAs stores it with an ending of its own.
func (s *system) keepAs(b *testing.B, ending, profile, query string) {
	b.Helper()
	dir := os.Getenv("PARLEY_BENCH_PROFILES")
	if dir == "" {
		return
	}
	r, err := http.Get("http://" + s.pods[0].profile + "/debug/pprof/" + profile + query)
	if err != nil {
		b.Fatal(err)
	}
	defer r.Body.Close()
	name := strings.ReplaceAll(b.Name(), "/", "_") + "." + ending
	f, err := os.Create(filepath.Join(dir, name)) //nolint:gosec // the folder is the user's choice
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	if _, err := io.Copy(f, r.Body); err != nil {
		b.Fatal(err)
	}
}

// keepCPU stores a CPU profile of some seconds beside what runs. The answer waits for it.
func (s *system) keepCPU(b *testing.B, seconds string) func() {
	b.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.keep(b, "profile", "?seconds="+seconds)
	}()
	return func() { <-done }
}

// metric reads one of a pod's metrics.
func (p *pod) metric(b *testing.B, name string) float64 {
	b.Helper()
	r, err := http.Get(p.url() + "/api/metrics")
	if err != nil {
		b.Fatal(err)
	}
	defer r.Body.Close()
	all, err := io.ReadAll(r.Body)
	if err != nil {
		b.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(all), "\n"+name)
	if !ok {
		b.Fatalf("no metric %s", name)
	}
	line, _, _ := strings.Cut(rest, "\n")
	v, err := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:], 64)
	if err != nil {
		b.Fatal(err)
	}
	return v
}
