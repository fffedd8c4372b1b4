package main

func dependencies() dashboard {
	const db = `db_name="parley"`
	return dashboard{
		uid: "parley-dependencies", title: "Dependencies", about: "Postgres and Redis as Parley's processes see them.",
		rows: []row{
			{"State", []panel{
				lines("Reached by", share, "The share of processes that reach the dependency; schema: that find it new enough.",
					gauge("avg", "parley_dependency_up", "dependency", "{{dependency}}")).under(1).ofOne().runbook("ParleyPostgresDown"),
				lines("Ready", count, "1 for a process that is ready.", perPod(selector("parley_ready"))).under(1).ofOne().runbook("ParleyNotReady"),
				lines("Redis's settings", count, "1: evicts nothing; publishes expiries. No value if Redis does not show its settings.",
					gauge("min", "parley_redis_noeviction", "", "noeviction"), gauge("min", "parley_redis_expiry_events", "", "expiry events")).
					under(1).ofOne().runbook("ParleyRedisEvicts"),
				lines("Clock", seconds, "How far each process's clock is ahead of Postgres's.", perPod(selector("parley_clock_skew_seconds"))).
					over(5).runbook("ParleyClockSkew"),
			}},
			{"Storage for files", []panel{
				lines("Reached by", share, "The share of processes that reach it.",
					gauge("avg", "parley_dependency_up", "", "storage", `dependency="storage"`)).under(1).ofOne().runbook("ParleyStorageDown"),
				lines("Uploads", perSec, "By what became of them.", rate("parley_uploads_total", "state", "{{state}}")).runbook("ParleyStorageDown"),
				lines("Since the last sweep", seconds, "Time since a worker last removed all files that were to go.",
					query{"time() - max(" + selector("parley_uploads_sweep_last_success_timestamp_seconds") + " > 0)", "age"}).over(3600).runbook("ParleyFilesKept"),
			}},
			{"Postgres's pool", []panel{
				lines("In use", share, "Connections in use, of those allowed.",
					perPod(selector("go_sql_in_use_connections", db)+" / "+selector("go_sql_max_open_connections", db))).
					over(0.9).ofOne().runbook("ParleyPostgresPoolSaturated"),
				lines("Connections", count, "Open connections of all processes.", gauge("sum", "go_sql_in_use_connections", "", "in use", db),
					gauge("sum", "go_sql_idle_connections", "", "idle", db)).stack().runbook("ParleyPostgresPoolSaturated"),
				lines("Waiting", seconds, "Seconds that queries waited for a connection, per second: 1 is one query always waiting.",
					perPod(perSecond("go_sql_wait_duration_seconds_total", db))).over(1).runbook("ParleyPostgresPoolSaturated"),
			}},
			{"Redis's pool", []panel{
				lines("Connections", count, "Of all processes.", gauge("sum", "parley_redis_pool_connections", "state", "{{state}}")).stack().runbook("ParleyRedisPoolSaturated"),
				lines("Waiting", seconds, "Seconds that commands waited for a connection, per second.",
					perPod(perSecond("parley_redis_pool_wait_seconds_total"))).over(1).runbook("ParleyRedisPoolSaturated"),
				lines("Misses, time-outs, stale", perSec, "Connections that had to be dialled, waits given up, and connections found broken.",
					rate("parley_redis_pool_misses_total", "", "misses"), rate("parley_redis_pool_timeouts_total", "", "time-outs"),
					rate("parley_redis_pool_stale_total", "", "stale")).runbook("ParleyRedisPoolSaturated"),
			}},
		},
	}
}
