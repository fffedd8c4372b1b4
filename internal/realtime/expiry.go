package realtime

import "time"

// expiryGrace is how long a socket outlives its external token, for a renewal in progress.
const expiryGrace = 5 * time.Second

// Extend replaces the expiry and the signer of a socket's external token by those of a newer one.
func (s *Session) Extend(expires time.Time, signer string) {
	s.mu.Lock()
	s.signer = signer
	s.mu.Unlock()
	s.expires.Store(expires.UnixNano())
}

// Expires returns when the socket's token ends, zero for a socket that ends with its session.
func (s *Session) Expires() time.Time {
	if at := s.expires.Load(); at != 0 {
		return time.Unix(0, at)
	}
	return time.Time{}
}

// expire closes the socket if its token has ended and was not renewed.
func (s *Session) expire(now time.Time) {
	if at := s.expires.Load(); at != 0 && now.UnixNano() >= at+int64(expiryGrace) {
		s.Close(CloseSessionOver)
	}
}

func (s *Session) signedBy(signers map[string]bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.signer != "" && signers[s.signer]
}

// EndUser closes all sockets of a user.
func (h *Hub) EndUser(userID string, code int) {
	for _, s := range h.sessionsOf(userID) {
		s.Close(code)
	}
}

// EndSigners closes the sockets whose tokens were signed by keys that are no longer valid. It checks all sockets, which is acceptable
// because keys are rarely withdrawn.
func (h *Hub) EndSigners(signers ...string) {
	gone := make(map[string]bool, len(signers))
	for _, s := range signers {
		gone[s] = true
	}
	h.each(func(s *Session) {
		if s.signedBy(gone) {
			s.Close(CloseSessionOver)
		}
	})
}
