package realtime

import "testing"

// While the workers never get to the end of those that wait, the list of them must not grow with all that there ever were.
func TestFlushersReuseTheRoomOfWrittenSessions(t *testing.T) {
	const waiting, turns = 4 * turn, 10_000
	f, w := newFlushers(), newWriter()
	for range waiting {
		f.add(&Session{})
	}
	for range turns {
		f.takeTurn(w)
		for _, s := range w.turn {
			f.add(s)
		}
	}
	if n := len(f.ready) - f.first; n != waiting {
		t.Errorf("%d wait, want %d", n, waiting)
	}
	if n := cap(f.ready); n > 4*waiting {
		t.Errorf("room for %d, where %d wait", n, waiting)
	}
}
