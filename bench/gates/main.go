// Command gates puts what the benchmarks measured beside their goals. It reads the output of go test -bench, passes it on,
// and ends with a table: each figure that has a goal, the limits that the same run measured, the goal, and "pass" or "short".
// Of several runs (-count) it reports the median and the spread.
//
//	go test -run '^$' -bench . ./bench/... | go run ./bench/gates
//
// A figure that is short does not change the exit status: machines differ, and right or wrong is for the benchmarks to say.
package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"golang.org/x/perf/benchfmt"
)

// gate is a figure with a goal.
type gate struct {
	figure string
	bench  string // the benchmark's whole name
	unit   string
	goal   float64
	least  bool     // the goal is a least value instead of a largest one
	limits []string // units of what the same benchmark measured of something else; those it did not are left out
}

func (g gate) meets(v float64) bool { return g.least && v >= g.goal || !g.least && v <= g.goal }

func main() {
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "gates:", err)
		os.Exit(1)
	}
}

func run(in io.Reader, out io.Writer) error {
	figures, err := read(io.TeeReader(in, out))
	if err != nil {
		return err
	}
	return table(out, gates, figures)
}

// figures has the values of each benchmark's units.
type figures map[string]map[string][]float64

func read(in io.Reader) (figures, error) {
	all := figures{}
	r := benchfmt.NewReader(in, "stdin")
	for r.Scan() {
		res, ok := r.Result().(*benchfmt.Result)
		if !ok {
			continue // a line of another kind
		}
		name := nameOf(res)
		of := all[name]
		if of == nil {
			of = map[string][]float64{}
			all[name] = of
		}
		for _, v := range res.Values {
			of[v.Unit] = append(of[v.Unit], v.Value)
		}
	}
	return all, r.Err()
}

// nameOf is the benchmark's name without the number of processors.
func nameOf(r *benchfmt.Result) string {
	base, parts := r.Name.Parts()
	name := string(base)
	for _, p := range parts {
		if p[0] == '/' {
			name += string(p)
		}
	}
	return name
}

// table writes the gates whose benchmarks ran.
func table(out io.Writer, gates []gate, all figures) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	rows := 0
	for _, g := range gates {
		values := all[g.bench][g.unit]
		if len(values) == 0 {
			continue
		}
		if rows++; rows == 1 {
			_, _ = fmt.Fprint(w, "\nfigure\tmeasured\tlimits of the run\tgoal\t\n")
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", g.figure, spread(values), limits(g, all), goal(g), verdict(g, median(values)))
	}
	return w.Flush()
}

func limits(g gate, all figures) string {
	var spreads []string
	for _, unit := range g.limits {
		if values := all[g.bench][unit]; len(values) > 0 {
			spreads = append(spreads, spread(values)+" "+unit)
		}
	}
	return strings.Join(spreads, ", ")
}

func goal(g gate) string {
	if g.least {
		return fmt.Sprintf("≥ %.4g", g.goal)
	}
	return fmt.Sprintf("≤ %.4g", g.goal)
}

func verdict(g gate, v float64) string {
	if g.meets(v) {
		return "pass"
	}
	return "short"
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

func spread(v []float64) string {
	if len(v) == 1 {
		return fmt.Sprintf("%.4g", v[0])
	}
	return fmt.Sprintf("%.4g (%.4g–%.4g)", median(v), slices.Min(v), slices.Max(v))
}
