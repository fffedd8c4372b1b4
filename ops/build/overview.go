package main

import "fmt"

// slos are the objectives, as in ops/rules/recording.yaml.
var slos = []struct {
	name, title, alert string
	objective          float64
}{
	{"availability", "Availability", "ParleyAvailabilityBurn", 0.999},
	{"latency", "Latency < 0.3 s", "ParleyLatencyBurn", 0.99},
	{"delivery", "Delivery < 0.25 s", "ParleyDeliveryBurn", 0.99},
	{"offline-lag", "Offline lag < 5 s", "ParleyOfflineLagBurn", 0.99},
	{"receipt-flush", "Receipts < 15 s", "ParleyReceiptFlushBurn", 0.99},
}

func overview() dashboard {
	recorded := func(metric, slo string) string { return fmt.Sprintf(`%s{%s, slo="%s"}`, metric, group, slo) }
	var good, burn, budget []panel
	for _, s := range slos {
		good = append(good, number(s.title, share, fmt.Sprintf("The share of good events in the last 6 hours. The objective is %g %%.", s.objective*100),
			query{"1 - max(" + recorded("parley:slo_errors:ratio_rate6h", s.name) + ")", s.title}).under(s.objective).ofOne().runbook(s.alert))
		budget = append(budget, number(s.title, share, "What is left of the error budget of 30 days, or of the days that the Prometheus remembers.",
			query{fmt.Sprintf("1 - max(%s) / (1 - %g)", recorded("parley:slo_errors:ratio_rate30d", s.name), s.objective), s.title}).under(0.2).runbook(s.alert))
	}
	for _, w := range []struct {
		window string
		factor float64
	}{{"1h", 14.4}, {"6h", 6}, {"1d", 3}} {
		burn = append(burn, lines("Burn rate, "+w.window, count, fmt.Sprintf("How many times faster than allowed the budget of 30 days is spent. The alert is at %g.", w.factor),
			query{fmt.Sprintf("max by (slo) (parley:slo_errors:ratio_rate%s{%s} / on (slo) group_left () (1 - parley:slo_objective:ratio))", w.window, group), "{{slo}}"}).
			over(w.factor))
	}
	firing := `ALERTS{alertname=~"Parley.+", alertstate="firing", namespace=~"$namespace"}`
	return dashboard{
		uid: "parley-overview", title: "Overview", about: "Whether users notice anything, and which part to look at.",
		rows: []row{
			{"Objectives", append(good, number("Alerts", count, "Alerts that fire.", query{"count(" + firing + ") or vector(0)", "alerts"}).over(1))},
			{"Error budget left", append(budget, number("Ready", share, "The share of processes that are ready.",
				query{"avg(" + selector("parley_ready") + ")", "ready"}).under(1).runbook("ParleyNotReady"))},
			{"Burn", burn},
			{"Traffic", []panel{
				lines("Requests", requests, "Requests a second, by class of status.",
					query{`sum by (class) (label_replace(` + own(perSecond("http_requests_total")) + `, "class", "${1}xx", "status", "(.).."))`, "{{class}}"}).stack(),
				lines("Messages", perSec, "Messages stored, and frames of events queued for sockets.",
					rate("parley_messages_accepted_total", "", "messages"), rate("parley_deliveries_total", "", "frames")),
				lines("Sockets", count, "Sockets that are open.", query{sum(own(selector("websocket_connections_active")), ""), "open"}),
			}},
			{"What is wrong", []panel{
				lines("Dependencies", count, "Processes that reach the dependency, of those that look.",
					gauge("sum", "parley_dependency_up", "dependency", "{{dependency}}")).wide(8).runbook("ParleyPostgresDown"),
				lines("Processes", count, "Processes that run, by kind.", gauge("count", "parley_build_info", "process", "{{process}}")).runbook("ParleyProcessMissing"),
				{kind: table, title: "Alerts that fire", unit: count, width: 8, about: "Empty when all is well. Each has a runbook of its name in docs/runbooks.",
					queries: []query{{"sum by (alertname, severity, job) (" + firing + ")", ""}}},
			}},
		},
	}
}
