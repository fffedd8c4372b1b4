package main

import (
	"bytes"
	"fmt"
	"html/template"
	"image/color"
	"math"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// curve is a line of a plot.
type curve struct {
	name   string
	points plotter.XYs
	broken bool // where a second is missing
}

// lines are its parts without a gap.
func (c curve) lines() (out []plotter.XYs) {
	from := 0
	for i := range c.points {
		if i > from && c.broken && c.points[i].X-c.points[i-1].X > 2 {
			out = append(out, c.points[from:i])
			from = i
		}
	}
	return append(out, c.points[from:])
}

var (
	ink     = color.RGBA{0x33, 0x3a, 0x44, 0xff}
	faint   = color.RGBA{0xe3, 0xe6, 0xea, 0xff}
	palette = []color.RGBA{
		{0x1b, 0x6c, 0xc8, 0xff}, {0xd9, 0x5f, 0x02, 0xff}, {0x1b, 0x9e, 0x77, 0xff}, {0xc5, 0x1b, 0x5a, 0xff}, {0x75, 0x60, 0xb3, 0xff},
		{0x8a, 0x6d, 0x1b, 0xff}, {0x4d, 0x4d, 0x4d, 0xff}, {0x2c, 0xa8, 0xc2, 0xff},
	}
)

// newPlot makes an empty plot.
func newPlot(x, y string) *plot.Plot {
	p := plot.New()
	p.X.Label.Text, p.Y.Label.Text = x, y
	p.Legend.Top, p.Legend.Left, p.Legend.XOffs, p.Legend.Padding = true, true, vg.Points(8), vg.Points(2)
	for _, a := range []*plot.Axis{&p.X, &p.Y} {
		a.Color, a.Label.TextStyle.Color, a.Tick.Label.Color, a.Tick.Color = ink, ink, ink, ink
		a.Label.TextStyle.Font = font.Font{Typeface: "Liberation", Variant: "Sans", Size: 11}
		a.Tick.Label.Font = font.Font{Typeface: "Liberation", Variant: "Sans", Size: 10}
	}
	p.Legend.TextStyle.Font, p.Legend.TextStyle.Color = font.Font{Typeface: "Liberation", Variant: "Sans", Size: 10}, ink
	return p
}

// svg draws the curves. Those without points are left out; without any there is no plot.
func svg(p *plot.Plot, curves []curve) (template.HTML, error) {
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = faint, faint
	p.Add(grid)
	drawn := 0
	for i, c := range curves {
		if len(c.points) == 0 {
			continue
		}
		drawn++
		for k, part := range c.lines() {
			l, err := plotter.NewLine(part)
			if err != nil {
				return "", fmt.Errorf("plot %s: %w", c.name, err)
			}
			l.Color, l.Width = palette[i%len(palette)], vg.Points(1.6)
			p.Add(l)
			if k == 0 {
				p.Legend.Add(c.name, l)
			}
		}
	}
	if drawn == 0 {
		return "", nil
	}
	canvas := vgsvg.New(7.2*vg.Inch, 2.9*vg.Inch)
	p.Draw(draw.Crop(draw.New(canvas), vg.Points(4), vg.Points(-10), vg.Points(4), vg.Points(-6)))
	var b bytes.Buffer
	if _, err := canvas.WriteTo(&b); err != nil {
		return "", err
	}
	_, body, _ := strings.Cut(b.String(), "<svg width=\"518.4pt\" height=\"208.8pt\" ")
	return template.HTML("<svg " + strings.ReplaceAll(body, "Liberation Sans", "sans-serif")), nil //nolint:gosec // the library escapes names
}

// overTime plots values from 0 up, second by second.
func overTime(y string, curves []curve) (template.HTML, error) {
	p := newPlot("seconds since the load began", y)
	p.X.Min, p.Y.Min = 0, 0
	p.X.Tick.Marker, p.Y.Tick.Marker = plot.TickerFunc(ticks), plot.TickerFunc(ticks)
	top := 0.0
	for _, c := range curves {
		for _, xy := range c.points {
			top = max(top, xy.Y)
		}
	}
	p.Y.Max = max(1, top*1.35) // the legend's place
	return svg(p, curves)
}

// ticks are some five, at multiples of 1, 2 or 5 of a power of ten.
func ticks(low, high float64) (out []plot.Tick) {
	step := math.Pow(10, math.Floor(math.Log10((high-low)/5)))
	for _, k := range []float64{2, 2.5, 2} { // 2, 5, 10
		if (high-low)/step > 7 {
			step *= k
		}
	}
	for v := math.Ceil(low/step) * step; v <= high; v += step {
		out = append(out, plot.Tick{Value: v, Label: short(v)})
	}
	return out
}

// short writes a number with three digits.
func short(v float64) string {
	for _, u := range []struct {
		size float64
		name string
	}{{1e6, "M"}, {1e3, "k"}} {
		if math.Abs(v) >= u.size {
			return strconv.FormatFloat(v/u.size, 'g', 3, 64) + u.name
		}
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}

// onLatency makes the axis one of milliseconds, by powers of ten.
func onLatency(p *plot.Plot, curves []curve) {
	low, high := math.Inf(1), 0.0
	for _, c := range curves {
		for i := range c.points {
			c.points[i].Y = max(c.points[i].Y, 0.001)
			low, high = min(low, c.points[i].Y), max(high, c.points[i].Y)
		}
	}
	p.Y.Scale = plot.LogScale{}
	p.Y.Min, p.Y.Max = math.Pow(10, math.Floor(math.Log10(low))), math.Pow(10, math.Ceil(math.Log10(high*1.01)+0.5))
	p.Y.Tick.Marker = plot.TickerFunc(func(low, high float64) (ticks []plot.Tick) {
		for decade := low; decade <= high*1.001; decade *= 10 {
			ticks = append(ticks, plot.Tick{Value: decade, Label: strconv.FormatFloat(decade, 'f', -1, 64)})
			for _, k := range []float64{2, 5} {
				ticks = append(ticks, plot.Tick{Value: decade * k})
			}
		}
		return ticks
	})
}

func latencyOverTime(curves []curve) (template.HTML, error) {
	p := newPlot("seconds since the load began", "milliseconds")
	p.X.Min, p.X.Tick.Marker = 0, plot.TickerFunc(ticks)
	onLatency(p, curves)
	return svg(p, curves)
}

// byPercentile plots distributions. Each step to the right leaves out nine tenths of the rest.
func byPercentile(kinds map[string][]point) (template.HTML, error) {
	var curves []curve
	for _, k := range sorted(kinds) {
		c := curve{name: k}
		for _, x := range kinds[k] {
			if x.Percentile < 100 {
				c.points = append(c.points, plotter.XY{X: 100 / (100 - x.Percentile), Y: x.Milliseconds})
			}
		}
		curves = append(curves, c)
	}
	p := newPlot("percentile", "milliseconds")
	onLatency(p, curves)
	p.X.Scale, p.X.Min, p.X.Max = plot.LogScale{}, 1, 10 // at least: a latency that is the only one has no percentiles
	p.X.Tick.Marker = plot.TickerFunc(func(low, high float64) (ticks []plot.Tick) {
		for _, label := range []string{"0", "50", "75", "90", "95", "99", "99.5", "99.9", "99.99", "99.999", "99.9999"} {
			q, _ := strconv.ParseFloat(label, 64) // as above
			if x := 100 / (100 - q); x >= low && x <= high {
				ticks = append(ticks, plot.Tick{Value: x, Label: label + " %"})
			}
		}
		return ticks
	})
	return svg(p, curves)
}

// rateCurves are counters as rates, those of them that moved.
func rateCurves(series []second, names ...string) (out []curve) {
	for _, n := range names {
		c, moved := curve{name: n}, false
		for _, x := range series {
			moved = moved || x.Counts[n] != 0
			c.points = append(c.points, plotter.XY{X: x.At, Y: float64(x.Counts[n]) / x.Seconds})
		}
		if !moved {
			c.points = nil
		}
		out = append(out, c)
	}
	return out
}

// latencyCurves are the quantiles of a kind, second by second.
func latencyCurves(series []second, kind string) []curve {
	out := []curve{{name: "p50", broken: true}, {name: "p90", broken: true}, {name: "p99", broken: true}, {name: "max", broken: true}}
	for _, x := range series {
		if q, some := x.Latencies[kind]; some {
			for i, v := range []float64{q.P50, q.P90, q.P99, q.Max} {
				out[i].points = append(out[i].points, plotter.XY{X: x.At, Y: v})
			}
		}
	}
	return out
}
