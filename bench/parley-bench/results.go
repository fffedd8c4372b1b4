package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"strings"
	"time"
)

const (
	verdictOK       = "no violation"
	verdictViolated = "violated"
)

// results are what a run found, as --json writes it.
type results struct {
	Scenario    string    `json:"scenario"`
	Run         string    `json:"run"`
	Begun       time.Time `json:"begun"`
	Seconds     float64   `json:"seconds"` // of load
	Settings    *settings `json:"settings"`
	Interrupted bool      `json:"interrupted"`
	Verdict     string    `json:"verdict"`
	// Violations are by kind; Examples are the first ones.
	Violations map[string]int64 `json:"violations"`
	Examples   []string         `json:"examples"`
	// Counters are of the whole run, Rates a second of the load after the warm-up.
	Counters map[string]int64   `json:"counters"`
	Rates    map[string]float64 `json:"rates"`
	// Latencies are in milliseconds, after the warm-up.
	Latencies     map[string]quantiles `json:"latencies"`
	Distributions map[string][]point   `json:"distributions"`
	Series        []second             `json:"series"`
	Pods          []podResult          `json:"pods,omitempty"`
	Load          loadResult           `json:"load"`
	// AtTwice is estimated.
	AtTwice *capacity `json:"atTwiceTheLoad"`
}

// loadResult is what the load itself cost.
type loadResult struct {
	CPUSeconds float64 `json:"cpuSeconds"`
	MemoryMiB  float64 `json:"memoryMiB"` // resident, at most
}

func (b *bench) results(end time.Time, before, after []map[string]float64) *results {
	s := b.stats
	r := &results{
		Scenario: b.Scenario, Run: b.run, Begun: s.begun, Seconds: end.Sub(s.begun).Seconds(), Settings: b.settings, Verdict: verdictOK,
		Counters: numbers(&s.counters), Rates: s.rates(end),
		Latencies: map[string]quantiles{}, Distributions: map[string][]point{}, Series: s.series, Pods: pods(b.MetricsURLs, before, after),
	}
	for kind, h := range s.totals {
		r.Latencies[kind], r.Distributions[kind] = quantilesOf(h), distribution(h)
	}
	r.Counters["expected deliveries"] = b.expected()
	maps.DeleteFunc(r.Counters, func(_ string, n int64) bool { return n == 0 })
	if r.Violations, r.Examples = b.violations.found(); len(r.Violations) > 0 {
		r.Verdict = verdictViolated
	}
	r.AtTwice = r.twiceTheLoad()
	return r
}

// expected are the deliveries there had to be: what was acknowledged at each who listens, what came at who left.
func (b *bench) expected() (n int64) {
	for _, p := range b.people {
		p.mu.Lock()
		for _, f := range p.feeds {
			upTo := f.held
			if p.wanted {
				upTo = f.conversation.last()
			}
			n += upTo - f.conversation.base
		}
		p.mu.Unlock()
	}
	return n
}

// write prints the results, and writes the files that are wanted.
func (r *results) write(s *settings, out io.Writer) error {
	if _, err := io.WriteString(out, r.text()); err != nil {
		return err
	}
	if s.json != "" {
		j, err := json.MarshalIndent(r, "", " ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(s.json, append(j, '\n'), 0o644); err != nil { //nolint:gosec // results are no secret
			return err
		}
	}
	if s.report != "" {
		return r.writeReport(s.report)
	}
	return nil
}

func (r *results) text() string {
	var out strings.Builder
	fmt.Fprintf(&out, "\n%s, %.1f s of load%s, CPU of the load itself %.1f s\n\n",
		r.Scenario, r.Seconds, map[bool]string{true: ", interrupted"}[r.Interrupted], r.Load.CPUSeconds)
	for _, k := range sorted(r.Counters) {
		fmt.Fprintf(&out, "  %-24s %12d", k, r.Counters[k])
		if r.Rates[k] > 0 { // what was counted before the load has none
			fmt.Fprintf(&out, " %14.1f /s", r.Rates[k])
		}
		out.WriteByte('\n')
	}
	fmt.Fprintf(&out, "\n  %-14s %10s %9s %9s %9s %9s %9s\n", "ms", "count", "p50", "p90", "p99", "p99.9", "max")
	for _, k := range sorted(r.Latencies) {
		q := r.Latencies[k]
		fmt.Fprintf(&out, "  %-14s %10d %9.2f %9.2f %9.2f %9.2f %9.2f\n", k, q.Count, q.P50, q.P90, q.P99, q.P999, q.Max)
	}
	out.WriteString(r.AtTwice.text())
	for _, p := range r.Pods {
		fmt.Fprintf(&out, "\n  %s: %.2f CPU s, %.0f MiB", p.URL, p.CPUSeconds, p.MemoryMiB)
	}
	if len(r.Pods) > 0 {
		out.WriteByte('\n')
	}
	fmt.Fprintf(&out, "\n%s", r.Verdict)
	for _, k := range sorted(r.Violations) {
		fmt.Fprintf(&out, ", %s: %d", k, r.Violations[k])
	}
	return out.String() + "\n"
}

// line is a second for who watches: rates, and p50/p99.
func (x second) line() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%4.0f s  sockets %d", x.At, x.Levels["sockets"])
	for _, k := range sorted(x.Counts) {
		fmt.Fprintf(&b, "  %s %.0f/s", k, math.Round(float64(x.Counts[k])/x.Seconds))
	}
	for _, k := range sorted(x.Latencies) {
		fmt.Fprintf(&b, "  %s %.1f/%.1f ms", k, x.Latencies[k].P50, x.Latencies[k].P99)
	}
	return b.String()
}
