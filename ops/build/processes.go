package main

func processes() dashboard {
	// pod is a query for a figure of each process whose name others export as well.
	pod := func(expr string) query {
		return query{aggregate("max", own(expr), "pod, instance"), "{{pod}} {{instance}}"}
	}
	return dashboard{
		uid: "parley-runtime", title: "Runtime", about: "The processes and their Go runtime.",
		rows: []row{
			{"Processes", []panel{
				lines("Running", count, "Processes by kind and version.", gauge("count", "parley_build_info", "process, version", "{{process}} {{version}}")).runbook("ParleyProcessMissing"),
				lines("Uptime", seconds, "Since the process started.", pod("(time() - "+selector("process_start_time_seconds")+")")).runbook("ParleyRestarting"),
				lines("Panics", perSec, "By the part that panicked.", rate("parley_panics_total", "part", "{{part}}")).runbook("ParleyPanics"),
				lines("Log records", perSec, "By level. An error is something to act on.", rate("parley_log_records_total", "level", "{{level}}", `level!="debug"`)).runbook("ParleyErrorsLogged"),
				lines("File descriptors", share, "Of those allowed.",
					pod(selector("process_open_fds")+" / "+selector("process_max_fds"))).over(0.8).runbook("ParleyFileDescriptors"),
				lines("Processor", count, "Cores in use.", pod(perSecond("process_cpu_seconds_total"))),
			}},
			{"Go", []panel{
				lines("Memory", bytes, "Resident memory.", pod(selector("process_resident_memory_bytes"))),
				lines("Heap", bytes, "Live and not yet collected.", pod(selector("go_memstats_heap_alloc_bytes"))),
				lines("Goroutines", count, "They rise and fall with the sockets.", pod(selector("go_goroutines"))).runbook("ParleyGoroutineLeak"),
				lines("Collections", perSec, "Garbage collections.", pod(perSecond("go_gc_duration_seconds_count"))),
				lines("Pause", seconds, "Of a collection, on average.",
					pod(perSecond("go_gc_duration_seconds_sum")+" / ("+perSecond("go_gc_duration_seconds_count")+" > 0)")),
				lines("Allocations", "Bps", "Bytes allocated.", pod(perSecond("go_memstats_alloc_bytes_total"))),
			}},
		},
	}
}
