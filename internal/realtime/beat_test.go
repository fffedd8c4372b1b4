package realtime_test

import (
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/realtime"
)

// Who only listens to a busy conversation says nothing by themselves: without a ping in between they would be given up.
func TestABusyListenerIsPinged(t *testing.T) {
	t.Parallel()
	e := setup(t, 1, 3)
	c := e.pods[0].connect(t, e.users[1])
	c.session.WasSilentFor(realtime.Heartbeat)
	begun := time.Now()
	for {
		e.pods[0].send(t, e.group, e.users[0], "more")
		f := c.next(5 * time.Second)
		if f.Type == "protocol ping" {
			return
		}
		if time.Since(begun) > realtime.Heartbeat/2 { // before it would have come for want of anything else
			t.Fatal("no ping")
		}
	}
}
