package attachment

import (
	"time"

	"github.com/parley-chat/parley/internal/periodic"
)

const (
	sweepTask  = "attachments:sweep"
	sweepQueue = "attachments"
	// sweepPoll is how often a worker looks for the next sweep.
	sweepPoll = 1 * time.Second
	// sweepTimeout bounds one sweep. The next sweep continues.
	sweepTimeout = 10 * time.Minute
)

// SweepTask is the sweep that a receipt-worker runs each interval.
func SweepTask(s *Sweeper, interval time.Duration) periodic.Task {
	return periodic.Task{Name: sweepTask, Queue: sweepQueue, Interval: interval, Timeout: sweepTimeout, Poll: sweepPoll, Run: s.Sweep}
}
