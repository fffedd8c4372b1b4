package attachment

import (
	"context"
	"time"
)

// SweepAt is Sweep at a time of the database's.
func (s *Sweeper) SweepAt(ctx context.Context, at time.Time) error { return s.sweepAt(ctx, &at) }

// SniffLen is how much of a file a check holds.
const SniffLen = sniffLen
