package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// The unit costs of docs/performance.md, "Capacity": seconds of a core, and memory of a socket.
const (
	postgresPerSend  = 99e-6
	redisPerSend     = 4e-6
	redisPerSocket   = 1.4e-6 // a second
	apiMiBPerSocket  = 14.0 / 1024
	mostBusy         = 0.6 // of a core, beyond which latencies suffer from small bursts
	growth           = 2.0
	gomaxprocsSeries = "go_sched_gomaxprocs_threads"
)

// capacity says what the run's figures would be at twice the load: twice the rate or, without a rate, twice as much in flight, from twice
// the sockets.
type capacity struct {
	// Utilisation is the part of its cores that the busiest pod used; 0 if no pod's metrics were read.
	Utilisation float64 `json:"utilisation"`
	// Growth is by how much the throughput grows: 2, or less if the busiest pod would have more to do than it can.
	Growth  float64    `json:"growth"`
	Figures []estimate `json:"figures"`
}

// estimate is a figure of the run and at twice the load. Twice is null if it has no bound or can't be known; Basis says how it was found.
type estimate struct {
	Figure   string   `json:"figure"`
	Measured float64  `json:"measured"`
	Twice    *float64 `json:"twice"`
	Basis    string   `json:"basis"`
}

// twiceTheLoad applies the capacity model. Pods are taken as the bottleneck: the costs of a unit of work are constant, so CPU grows with the
// throughput. An open load (with a rate) waits like customers of one queue; a closed one keeps Little's law.
func (r *results) twiceTheLoad() *capacity {
	c := &capacity{Utilisation: r.utilisation(), Growth: growth}
	saturated := c.Utilisation*growth > 1
	if saturated {
		c.Growth = max(1, 1/c.Utilisation)
	}
	basis := "in proportion: no pod's metrics were read"
	switch {
	case saturated:
		basis = "the busiest pod is saturated: more pods"
	case c.Utilisation > 0:
		basis = "in proportion: the pods have room"
	}
	for _, k := range sorted(r.Rates) {
		if r.Rates[k] > 0 && !isFault(k) {
			c.add(k+" a second", r.Rates[k], r.Rates[k]*c.Growth, basis)
		}
	}
	r.latenciesAtTwice(c, saturated)
	r.usageAtTwice(c)
	return c
}

func (c *capacity) add(figure string, measured, twice float64, basis string) {
	e := estimate{Figure: figure, Measured: measured, Basis: basis}
	if !math.IsNaN(twice) && !math.IsInf(twice, 0) {
		e.Twice = &twice
	}
	c.Figures = append(c.Figures, e)
}

// latenciesAtTwice estimates p50 and p99 of each kind.
func (r *results) latenciesAtTwice(c *capacity, saturated bool) {
	factor, basis := (1-c.Utilisation)/(1-growth*c.Utilisation), "waiting in a queue: (1-u)/(1-2u) times"
	switch {
	case c.Utilisation == 0:
		factor, basis = math.NaN(), "needs --metrics-url"
	case r.closed():
		factor, basis = growth/c.Growth, "Little's law: in flight by throughput"
	case saturated:
		factor, basis = math.NaN(), "no bound: more comes than is served"
	}
	for _, k := range sorted(r.Latencies) {
		q := r.Latencies[k]
		c.add(k+" p50 ms", q.P50, q.P50*factor, basis)
		c.add(k+" p99 ms", q.P99, q.P99*factor, basis)
	}
}

// usageAtTwice estimates cores, memory and pods.
func (r *results) usageAtTwice(c *capacity) {
	sockets := 0.0
	for _, x := range r.Series {
		sockets = max(sockets, float64(x.Levels["sockets"]))
	}
	if len(r.Pods) > 0 {
		memory, busy := 0.0, 0.0 // pods that would be busy all the time
		for _, p := range r.Pods {
			memory += p.MemoryMiB
			busy += p.utilisation(r.Seconds)
		}
		cores := r.podCPU() / r.Seconds
		c.add("api cores", cores, cores*c.Growth, "in proportion to the throughput")
		c.add("api MiB", memory, memory+sockets*apiMiBPerSocket, "14 KiB for each socket more")
		c.add("api pods of this size", float64(len(r.Pods)), math.Ceil(busy*growth/mostBusy), "all of twice the load, none busier than 60 %")
	}
	sends := r.Rates["acked"]
	if sends > 0 {
		c.add("Postgres cores", sends*postgresPerSend, sends*c.Growth*postgresPerSend, "99 µs a send; more if few share a commit")
	}
	if sends+sockets > 0 {
		c.add("Redis cores", sends*redisPerSend+sockets*redisPerSocket, sends*c.Growth*redisPerSend+sockets*growth*redisPerSocket,
			"4 µs a send, 1.4 µs/s a socket; limits and group reads extra")
	}
}

// utilisation is the busiest pod's, 0 without metrics.
func (r *results) utilisation() (most float64) {
	for _, p := range r.Pods {
		most = max(most, p.utilisation(r.Seconds))
	}
	return most
}

// utilisation is the part of its cores that the pod used. A pod that does not say how many it has is taken to have one.
func (p podResult) utilisation(seconds float64) float64 {
	return p.CPUSeconds / seconds / max(1, p.After[gomaxprocsSeries])
}

// closed reports whether senders waited for answers, so that their number limited the load.
func (r *results) closed() bool {
	return r.Settings.Rate == 0 && slices.Contains([]string{"fanout", "sends", "sender", "reads"}, r.Scenario)
}

// isFault reports whether a counter counts what went wrong.
func isFault(counter string) bool {
	return strings.HasPrefix(counter, "closed ") || strings.HasPrefix(counter, "refused ") || strings.Contains(counter, "fail")
}

func (e estimate) twice() string {
	if e.Twice == nil {
		return "–"
	}
	return fmt.Sprintf("%.2f", *e.Twice)
}

// text is a table for the terminal.
func (c *capacity) text() string {
	var out strings.Builder
	fmt.Fprintf(&out, "\n  %-32s %12s %12s  estimated by the capacity model\n", "at twice the load", "measured", "then")
	for _, e := range c.Figures {
		fmt.Fprintf(&out, "  %-32s %12.2f %12s  %s\n", e.Figure, e.Measured, e.twice(), e.Basis)
	}
	return out.String()
}
