package audit

import "context"

// Sweep removes the entries that are too old, as Run does once an hour.
func (l *Log) Sweep(ctx context.Context) { l.sweep(ctx) }
