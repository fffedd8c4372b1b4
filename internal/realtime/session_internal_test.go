package realtime

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/parley-chat/parley/internal/realtime/wire"
)

// Every session ends as gone, and nothing leads back.
func TestSessionStatesOnlyMoveForward(t *testing.T) {
	t.Parallel()
	for from := range states {
		ends := from == gone
		for to := range states {
			if legal[from][to] && to <= from {
				t.Errorf("state %d may become %d", from, to)
			}
			ends = ends || legal[from][to]
		}
		if !ends {
			t.Errorf("state %d has no end", from)
		}
	}
	s := &Session{state: leaving}
	for _, next := range []state{joining, open, closing, leaving} {
		if s.enter(next) || s.state != leaving {
			t.Errorf("a leaving session becomes %d", next)
		}
	}
}

func TestOutboxKeepsTheOrderAndCoalesces(t *testing.T) {
	t.Parallel()
	var o outbox
	buf := make([]byte, 0, coalesce)
	first, second := &wire.Envelope{Revision: 1}, &wire.Envelope{Revision: 2}
	big := bytes.Repeat([]byte("b"), coalesce+1)
	for _, f := range []struct {
		frame string
		of    *wire.Envelope
	}{{"one", nil}, {"two", first}, {"three", second}, {string(big), nil}, {"four", nil}} {
		if !o.push(wire.Frame(f.frame), f.of) {
			t.Fatalf("no room for %.5s", f.frame)
		}
	}
	o.pushFront(wire.Frame("ready"))
	for _, want := range []string{"readyonetwothree", string(big), "four"} {
		piece, of := o.pop(buf)
		if string(piece) != want || of != first {
			t.Errorf("got %.20q of %v, want %.20q", piece, of, want)
		}
	}
	if piece, of := o.pop(buf); piece != nil || of != nil || o.len() != 0 || o.bytes != 0 || cap(o.frames) != len(o.room) {
		t.Errorf("an empty outbox has %q, %d bytes, room for %d", piece, o.bytes, cap(o.frames))
	}
}

func TestOutboxIsBounded(t *testing.T) {
	t.Parallel()
	var o outbox
	for i := range maxQueuedFrames {
		if !o.push(wire.Frame("x"), nil) {
			t.Fatalf("no room for frame %d", i)
		}
	}
	if o.push(wire.Frame("x"), nil) {
		t.Error("there is room for one frame too many")
	}
	o.clear()
	if !o.push(make(wire.Frame, maxQueuedBytes), nil) || o.push(wire.Frame("x"), nil) {
		t.Error("the bound in bytes does not hold")
	}
	o.add(wire.Frame("close")) // always fits
	if o.len() != 2 {
		t.Errorf("%d frames", o.len())
	}
}

func TestOutboxHasOneWriter(t *testing.T) {
	t.Parallel()
	var o outbox
	if o.claim() {
		t.Error("an empty outbox is claimed")
	}
	o.push(wire.Frame("x"), nil)
	if !o.claim() || o.claim() {
		t.Error("it must be claimed once")
	}
	o.hand = follower
	if o.claim() {
		t.Error("it is claimed from a follower")
	}
	released := o.awaitRelease()
	select {
	case <-released:
		t.Error("it was not released yet")
	default:
	}
	o.release()
	<-released
	if !o.claim() {
		t.Error("it can't be claimed after its release")
	}
}

func TestTheDocumentationShowsTheClosings(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/events.md")
	if err != nil {
		t.Fatal(err)
	}
	var want strings.Builder
	want.WriteString("| code | meaning | what to do |\n| --- | --- | --- |\n")
	for _, c := range Closings {
		fmt.Fprintf(&want, "| %d | %s | %s |\n", c.Code, c.Meaning, c.Advice)
		if len(c.Text) > 123 || c.Reason == "" {
			t.Errorf("%d: a reason of a close frame has at most 123 bytes", c.Code)
		}
	}
	if !strings.Contains(string(page), want.String()+"\n") {
		t.Errorf("docs/events.md does not have\n%s", &want)
	}
	codes := make([]int, len(Closings))
	for i, c := range Closings {
		codes[i] = c.Code
	}
	slices.Sort(codes)
	if len(slices.Compact(codes)) != len(Closings) {
		t.Error("a code stands twice")
	}
}
