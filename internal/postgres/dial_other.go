//go:build !linux

package postgres

import "syscall"

// limitUnacknowledged does nothing: the kernel has no such bound, and keep-alives have to do.
func limitUnacknowledged(string, string, syscall.RawConn) error { return nil }
