package receipt

import (
	"time"

	"github.com/parley-chat/parley/internal/periodic"
)

const (
	flushTask  = "receipts:flush"
	flushQueue = "receipts"
	// pollEvery is how often the server looks for a task, and so the longest delay of a tick.
	pollEvery = 200 * time.Millisecond
	// flushTimeout bounds one flush. The next flush continues.
	flushTimeout = 10 * time.Minute
)

// FlushTask is the flush that one receipt-worker runs each interval. Reads that a flush leaves are flushed by the next.
func FlushTask(f *Flusher, interval time.Duration, m *FlushMetrics) periodic.Task {
	return periodic.Task{
		Name: flushTask, Queue: flushQueue, Interval: interval, Timeout: flushTimeout, Poll: pollEvery,
		Run: f.Flush, Missed: m.missed.Inc,
	}
}
