package receipt

import (
	"time"

	"github.com/parley-chat/parley/internal/periodic"
)

const (
	flushTask  = "receipts:flush"
	flushQueue = "receipts"
	// pollEvery is how often the server looks for a task, and so how late a tick is at most.
	pollEvery = 200 * time.Millisecond
	// flushTimeout bounds one flush. What is left over is the next one's.
	flushTimeout = 10 * time.Minute
)

// FlushTask is the flush that a receipt-worker runs each interval. What one leaves is flushed by the next.
func FlushTask(f *Flusher, interval time.Duration, m *FlushMetrics) periodic.Task {
	return periodic.Task{
		Name: flushTask, Queue: flushQueue, Interval: interval, Timeout: flushTimeout, Poll: pollEvery,
		Run: f.Flush, Missed: m.missed.Inc,
	}
}
