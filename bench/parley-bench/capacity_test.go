package main

import (
	"fmt"
	"strings"
	"testing"
)

// ranFor is a run of ten seconds with 100 sends a second, with a pod of two cores that used so many CPU seconds.
func ranFor(scenario string, rate, cpu float64) *results {
	r := &results{
		Scenario: scenario, Seconds: 10, Settings: &settings{Rate: rate},
		Rates: map[string]float64{"acked": 100, "closed 1006": 2}, Latencies: map[string]quantiles{"ack": {P50: 4, P99: 20}},
		Series: []second{{Levels: map[string]int64{"sockets": 1000}}, {Levels: map[string]int64{"sockets": 1024}}},
	}
	if cpu > 0 {
		r.Pods = []podResult{{CPUSeconds: cpu, MemoryMiB: 50, After: map[string]float64{gomaxprocsSeries: 2}}}
	}
	return r
}

func TestFiguresAtTwiceTheLoad(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct {
		run  *results
		want string
	}{
		"open, with room":       {ranFor("sends", 100, 4), "acked 200.00, p50 5.33, p99 26.67, cores 0.80, MiB 64.00, pods 1.00"}, // 20 %: (1-0.2)/(1-0.4)
		"open, too much":        {ranFor("sends", 100, 16), "acked 125.00, p50 –, p99 –, cores 2.00, MiB 64.00, pods 3.00"},
		"closed, with room":     {ranFor("sends", 0, 4), "acked 200.00, p50 4.00, p99 20.00, cores 0.80, MiB 64.00, pods 1.00"},
		"closed, saturated":     {ranFor("sender", 0, 16), "acked 125.00, p50 6.40, p99 32.00, cores 2.00, MiB 64.00, pods 3.00"},
		"more than all cores":   {ranFor("sender", 0, 21), "acked 100.00, p50 8.00, p99 40.00, cores 2.10, MiB 64.00, pods 4.00"},
		"without metrics":       {ranFor("fanout", 100, 0), "acked 200.00, p50 –, p99 –"},
		"mixed has always rate": {ranFor("mixed", 100, 4), "acked 200.00, p50 5.33, p99 26.67, cores 0.80, MiB 64.00, pods 1.00"},
	} {
		c := x.run.twiceTheLoad()
		var got []string
		for _, e := range c.Figures {
			for figure, short := range map[string]string{
				"acked a second": "acked", "ack p50 ms": "p50", "ack p99 ms": "p99", "api cores": "cores", "api MiB": "MiB", "api pods of this size": "pods",
			} {
				if e.Figure == figure {
					got = append(got, short+" "+e.twice())
				}
			}
			if strings.Contains(e.Figure, "closed") || e.Basis == "" {
				t.Errorf("%s: %+v", name, e)
			}
		}
		if s := strings.Join(got, ", "); s != x.want {
			t.Errorf("%s:\ngot  %s\nwant %s", name, s, x.want)
		}
		last := c.Figures[len(c.Figures)-2:]
		if postgres := fmt.Sprintf("%.4f", last[0].Measured); last[0].Figure != "Postgres cores" || postgres != "0.0099" {
			t.Errorf("%s: %+v", name, last)
		}
		if redis := fmt.Sprintf("%.6f", last[1].Measured); last[1].Figure != "Redis cores" || redis != "0.001834" {
			t.Errorf("%s: %+v", name, last)
		}
	}
}
