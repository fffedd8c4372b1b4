package main

// gates are the goals. docs/performance.md explains their origin.
var gates = []gate{
	{figure: "KiB per idle socket", bench: "Connections", unit: "KiB/socket", goal: 17, limits: []string{"bare-KiB/socket", "centrifugo-KiB/socket"}},
	{figure: "KiB per socket after traffic", bench: "Connections", unit: "KiB/socket-after-traffic", goal: 20},
	{
		figure: "CPU s per 1,000 connects, api + Redis + Postgres", bench: "Connections", unit: "all-CPU-s/1000-connects", goal: 0.6,
		limits: []string{"bare-CPU-s/1000-connects", "centrifugo-CPU-s/1000-connects"},
	},
	fanOut("1,000 receivers, one in flight", "pods=1/receivers=1000/one", 14),
	fanOut("1,000 receivers, 8 in flight", "pods=1/receivers=1000/moderate", 4),
	fanOut("1,000 receivers, backlog", "pods=1/receivers=1000/backlog", 6),
	fanOut("1,000 receivers, one sender with 64 in flight", "pods=1/receivers=1000/one-sender", 2),
	fanOut("5,000 receivers, backlog", "pods=1/receivers=5000/backlog", 5),
	fanOut("two pods, 1,000 receivers, one in flight", "pods=2/receivers=1000/one", 15),
	fanOut("two pods, 1,000 receivers, backlog", "pods=2/receivers=1000/backlog", 9),
	{figure: "ms from publish to receive, p99 at half of saturation", bench: "Latency", unit: "p99-ms", goal: 64, limits: []string{"bare-p99-ms", "centrifugo-p99-ms"}},
	{figure: "… as a share of Centrifugo's, both at one rate", bench: "Latency", unit: "p99-of-centrifugo's", goal: 0.43},
	{figure: "durable sends against pgbench", bench: "Send", unit: "ratio", goal: 1.9, least: true, limits: []string{"pgbench/s"}},
	{figure: "CPU s per 100,000 durable sends, api + Redis + Postgres", bench: "Send", unit: "CPU-s/100k-sends", goal: 20, limits: []string{"CPU-s/100k-pgbench"}},
	{figure: "CPU of a GET with a token of a product's issuer against one of the api's own", bench: "ExternalToken", unit: "ratio", goal: 1.1, limits: []string{"own-CPU-µs/req"}},
	{figure: "CPU of a reaction against a send to the same group", bench: "Reaction", unit: "ratio", goal: 1.5, limits: []string{"send-CPU-µs"}},
	{figure: "CPU of 100 members who react at once, in sends", bench: "Reaction", unit: "crowd-in-sends", goal: 10, limits: []string{"send-CPU-µs"}},
	{figure: "CPU of an authenticated GET against a bare echo", bench: "AuthenticatedGet", unit: "ratio", goal: 4, limits: []string{"echo-CPU-µs/req"}},
	{figure: "Postgres statements per 100,000 group reads", bench: "Reads", unit: "statements/100k", goal: 200},
	{figure: "receipts flushed against a plain insert", bench: "Flush/a_hundred_messages", unit: "ratio", goal: 0.8, least: true, limits: []string{"plain/s"}},
	{figure: "ms from deadline to presence:offline, p99", bench: "OfflineLag", unit: "p99-ms", goal: 500},
	{figure: "ms of a search by prefix, p99", bench: "Search/Prefix", unit: "p99-ms", goal: 10},
	{figure: "ms of a misspelt search, p99", bench: "Search/Misspelt", unit: "p99-ms", goal: 10},
}

func fanOut(of, way string, goal float64) gate {
	return gate{figure: "api CPU s per million deliveries: " + of, bench: "Fanout/" + way, unit: "api-CPU-s/M", goal: goal, limits: []string{"bare-CPU-s/M", "centrifugo-CPU-s/M"}}
}
