package realtime

import "time"

// BeatIn has the heartbeat look at all sockets as if that time had passed.
func (h *Hub) BeatIn(d time.Duration) { h.beat(h.now() + int64(d)) }

// WroteIn notes a write to the socket as if that time had passed.
func (s *Session) WroteIn(d time.Duration) { s.lastWritten.Store(s.hub.now() + int64(d)) }
