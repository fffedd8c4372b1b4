package main

import (
	"bytes"
	"strings"
	"testing"
)

const printed = `goos: linux
pkg: github.com/parley-chat/parley/bench
BenchmarkConnections-2   1   12.25 KiB/socket   20.50 KiB/socket-after-traffic   9.5 bare-KiB/socket
BenchmarkSend-2          1   25.80 CPU-s/100k-sends   1.6 ratio   60 CPU-s/100k-pgbench
BenchmarkSend-2          1   19.00 CPU-s/100k-sends   1.8 ratio   62 CPU-s/100k-pgbench
BenchmarkSend-2          1   20.00 CPU-s/100k-sends   1.4 ratio   61 CPU-s/100k-pgbench
PASS
ok  	github.com/parley-chat/parley/bench	12.3s
`

// rows are the lines of the table, their columns parted by |.
func rows(out string) map[string]string {
	all := map[string]string{}
	_, table, _ := strings.Cut(out, "\nfigure")
	for _, line := range strings.Split(table, "\n") {
		var columns []string
		for _, c := range strings.Split(line, "  ") {
			if c = strings.TrimSpace(c); c != "" {
				columns = append(columns, c)
			}
		}
		if len(columns) > 1 {
			all[columns[0]] = strings.Join(columns[1:], "|")
		}
	}
	return all
}

func TestFiguresStandBesideLimitAndGoal(t *testing.T) {
	var out bytes.Buffer
	if err := run(strings.NewReader(printed), &out); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(out.String(), printed) {
		t.Errorf("what came is not passed on:\n%s", out.String())
	}
	got := rows(out.String())
	for figure, want := range map[string]string{
		"KiB per idle socket":                                     "12.25|9.5 bare-KiB/socket|≤ 17|pass",
		"KiB per socket after traffic":                            "20.5|≤ 20|short",
		"durable sends against pgbench":                           "1.6 (1.4–1.8)|≥ 1.9|short",
		"CPU s per 100,000 durable sends, api + Redis + Postgres": "20 (19–25.8)|61 (60–62) CPU-s/100k-pgbench|≤ 20|pass",
	} {
		if got[figure] != want {
			t.Errorf("%s: %q, want %q", figure, got[figure], want)
		}
	}
	if _, ok := got["ms from publish to receive, p99 at half of saturation"]; ok {
		t.Error("a benchmark that did not run is in the table")
	}
}
