package main

import "strings"

type (
	dashboard struct {
		uid, title, about string
		rows              []row
	}
	row struct {
		title  string
		panels []panel
	}
	panel struct {
		kind, title, about, unit string
		queries                  []query
		// limit is where it turns from good to bad; 0 is none. below means that values under the limit are bad.
		limit   float64
		below   bool
		stacked bool
		max     *float64
		width   int // of 24
		alert   string
	}
	query struct{ expr, legend string }
)

// Kinds of panels.
const (
	graph = "timeseries"
	stat  = "stat"
	table = "table"
)

// Units, as Grafana names them.
const (
	seconds  = "s"
	share    = "percentunit"
	perSec   = "ops"
	requests = "reqps"
	count    = "short"
	bytes    = "bytes"
)

// target narrows a query to what the variables name; group has no pod, for what is recorded over all pods.
const (
	target = `namespace=~"$namespace", job=~"$job", pod=~"$pod"`
	group  = `namespace=~"$namespace", job=~"$job"`
	// identity is a scraped process.
	identity = "namespace, job, instance"
)

// lines is a graph of a third of the width.
func lines(title, unit, about string, queries ...query) panel {
	return panel{kind: graph, title: title, unit: unit, about: about, queries: queries, width: 8}
}

// number is a single figure.
func number(title, unit, about string, q query) panel {
	return panel{kind: stat, title: title, unit: unit, about: about, queries: []query{q}, width: 4}
}

func (p panel) wide(w int) panel          { p.width = w; return p }
func (p panel) stack() panel              { p.stacked = true; return p }
func (p panel) over(limit float64) panel  { p.limit = limit; return p }
func (p panel) under(limit float64) panel { p.limit, p.below = limit, true; return p }

// ofOne has the axis end at 1.
func (p panel) ofOne() panel {
	one := 1.0
	p.max = &one
	return p
}

func (p panel) runbook(alert string) panel {
	p.alert = alert
	return p
}

// selector is the metric narrowed by the variables and by further matchers.
func selector(metric string, matchers ...string) string {
	return metric + "{" + strings.Join(append(matchers, target), ", ") + "}"
}

// own keeps of a metric whose name others use as well what Parley's processes export. Such a process exports parley_build_info.
func own(expr string) string {
	return expr + " and on (" + identity + ") " + selector("parley_build_info")
}

// perSecond is the counter's rate.
func perSecond(metric string, matchers ...string) string {
	return "rate(" + selector(metric, matchers...) + "[$__rate_interval])"
}

// sum adds up an expression by labels, which may be none.
func sum(expr, by string) string { return aggregate("sum", expr, by) }

func aggregate(how, expr, by string) string {
	if by != "" {
		how += " by (" + by + ")"
	}
	return how + " (" + expr + ")"
}

// rate is a query for a counter's rate, by labels.
func rate(metric, by, legend string, matchers ...string) query {
	return query{sum(perSecond(metric, matchers...), by), legend}
}

// some leaves out what did not happen, of a counter with many labels that are there before they count.
func (q query) some() query { return query{q.expr + " > 0", q.legend} }

// gauge is a query for a gauge, aggregated by labels.
func gauge(how, metric, by, legend string, matchers ...string) query {
	return query{aggregate(how, selector(metric, matchers...), by), legend}
}

// perPod is a query for a figure of each process.
func perPod(expr string) query {
	return query{aggregate("max", expr, "pod, instance"), "{{pod}} {{instance}}"}
}

// quantiles are the queries for a histogram's quantiles.
func quantiles(metric string) []query { return quantilesOf(perSecond(metric + "_bucket")) }

func quantilesOf(buckets string) []query {
	q := func(share, legend string) query {
		return query{"histogram_quantile(" + share + ", " + sum(buckets, "le") + ")", legend}
	}
	return []query{q("0.5", "p50"), q("0.9", "p90"), q("0.99", "p99")}
}
