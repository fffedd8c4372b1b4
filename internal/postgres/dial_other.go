//go:build !linux

package postgres

import "syscall"

// limitUnacknowledged does nothing, because this kernel has no such bound. Only keep-alives detect a dead peer.
func limitUnacknowledged(string, string, syscall.RawConn) error { return nil }
