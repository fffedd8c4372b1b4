package main

import (
	"bytes"
	_ "embed" // the page
	"fmt"
	"html/template"
	"os"
	"slices"
	"strings"

	"gonum.org/v1/plot/plotter"
)

//go:embed report.html
var reportPage string

// figure is a plot with its title.
type figure struct {
	Title string
	SVG   template.HTML
}

// settingRow is a setting, or another fact about the run.
type settingRow struct{ Name, Value string }

// writeReport writes the page.
func (r *results) writeReport(file string) error {
	figures, err := r.figures()
	if err != nil {
		return err
	}
	t, err := template.New("report").Funcs(template.FuncMap{
		"ms":      func(v float64) string { return fmt.Sprintf("%.2f", v) },
		"rate":    func(v float64) string { return fmt.Sprintf("%.1f", v) },
		"twice":   estimate.twice,
		"perK":    func(cpu float64, n int64) string { return fmt.Sprintf("%.2f", cpu/float64(n)*1000) },
		"ordered": sorted[int64], "kinds": sorted[quantiles],
	}).Parse(reportPage)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := t.Execute(&b, map[string]any{"R": r, "Settings": r.rows(), "Figures": figures, "OK": r.Verdict == verdictOK, "PodCPU": r.podCPU(), "Per": r.measured()}); err != nil {
		return fmt.Errorf("the report: %w", err)
	}
	return os.WriteFile(file, b.Bytes(), 0o644) //nolint:gosec // results are no secret
}

func (r *results) podCPU() (sum float64) {
	for _, p := range r.Pods {
		sum += p.CPUSeconds
	}
	return sum
}

// measured are the counters that the pods' CPU is held against.
func (r *results) measured() (out []string) {
	for _, k := range []string{"acked", "deliveries", "requests", "changes"} {
		if r.Counters[k] > 0 {
			out = append(out, k)
		}
	}
	if r.Scenario == "sockets" && r.Counters["connects"] > 0 {
		out = append(out, "connects")
	}
	return out
}

// figures are the plots that there is something to see on.
func (r *results) figures() (out []figure, err error) {
	add := func(title string, svg template.HTML, e error) {
		if e != nil && err == nil {
			err = e
		}
		if svg != "" {
			out = append(out, figure{title, svg})
		}
	}
	var faults []string
	for _, k := range sorted(r.Counters) {
		if isFault(k) {
			faults = append(faults, k)
		}
	}
	series := slices.DeleteFunc(slices.Clone(r.Series), func(x second) bool { return x.Seconds < 0.5 }) // the rest of the last one
	for _, f := range []struct {
		title    string
		counters []string
	}{
		{"Messages a second", []string{"sent", "acked"}},
		{"Deliveries a second", []string{"deliveries", "deliveries by sync"}},
		{"Reads a second", []string{"reads", "receipts delivered", "requests"}},
		{"Presence delivered a second", []string{"online delivered", "offline delivered"}},
		{"Sockets opened a second", []string{"connects", "reconnects", "syncs"}},
		{"What went wrong, a second", faults},
	} {
		svg, e := overTime("per second", rateCurves(series, f.counters...))
		add(f.title, svg, e)
	}
	sockets := curve{name: "sockets"}
	for _, x := range series {
		sockets.points = append(sockets.points, plotter.XY{X: x.At, Y: float64(x.Levels["sockets"])})
	}
	svg, e := overTime("sockets", []curve{sockets})
	add("Open sockets", svg, e)
	for _, k := range sorted(r.Latencies) {
		svg, e := latencyOverTime(latencyCurves(series, k))
		add("Latency over time: "+k, svg, e)
	}
	if len(r.Distributions) > 0 {
		svg, e = byPercentile(r.Distributions)
		add("Latency by percentile", svg, e)
	}
	return out, err
}

// rows are the settings that matter to the scenario.
func (r *results) rows() (out []settingRow) {
	s := r.Settings
	add := func(name string, value any) { out = append(out, settingRow{name, fmt.Sprint(value)}) }
	add("addresses", strings.Join(s.URLs, " "))
	add("users", find(s.Scenario).users(s))
	switch s.Scenario {
	case "fanout":
		add("groups × members", fmt.Sprintf("%d × %d", s.Groups, s.Members))
		if s.Rate == 0 {
			add("messages in flight", s.InFlight)
		}
	case "sender":
		add("members of the group", s.Members)
		if s.Rate == 0 {
			add("messages in flight", s.InFlight)
		}
	case "presence":
		add("friends of each guest", s.Members)
	case "reads":
		add("members of a group", s.Members)
		add("messages of a group", s.Messages)
	}
	if s.Scenario != "sockets" && s.Scenario != "presence" {
		add("rate", map[bool]string{true: "each waits for the last", false: fmt.Sprintf("%g a second", s.Rate)}[s.Rate == 0])
	}
	add("sockets opened a second", s.ConnectRate)
	add("duration, warm-up", fmt.Sprintf("%s, %s", s.Duration, s.Warmup))
	return out
}
