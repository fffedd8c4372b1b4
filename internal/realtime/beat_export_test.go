package realtime

import "time"

// WasSilentFor has it that nothing was heard of the client for so long.
func (s *Session) WasSilentFor(d time.Duration) { s.lastHeard.Store(s.hub.now() - int64(d)) }
