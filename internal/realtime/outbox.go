package realtime

import (
	"github.com/parley-chat/parley/internal/budget"
	"github.com/parley-chat/parley/internal/realtime/wire"
)

// Bounds of an outbox. backlog is the initial capacity of an outbox with more than one frame.
const (
	backlog         = 8
	maxQueuedFrames = 1024
	maxQueuedBytes  = 4 << 20
	// The part of an outbox beyond freeBytes is charged to the process's memory budget, in steps of chargeStep.
	freeBytes  = 64 << 10
	chargeStep = 64 << 10
)

// hand is the writer of an outbox. There is at most one at a time, so that frames don't overtake each other.
type hand uint8

const (
	// nobody: the outbox is empty, or must not be written yet.
	nobody hand = iota
	// flusher: it is in the flushers' list, or a flusher writes it.
	flusher
	// follower: a separate goroutine writes it, because the client is slow. The connection has a write deadline.
	follower
)

// outbox holds the frames that wait for one socket, in order, and its writer. The session's lock guards it.
type outbox struct {
	frames []wire.Frame
	bytes  int
	// inHand is the size of the piece that is being written. charged is the part of bytes and inHand that is charged to the budget.
	inHand, charged int
	oldest          *wire.Envelope // the first event among the frames, whose delivery is measured
	room            [1]wire.Frame  // room for one frame, which suffices for most outboxes
	hand            hand
	// released is closed at the next release; nil if nothing waits for it.
	released chan struct{}
}

func (o *outbox) len() int { return len(o.frames) }

// push adds a frame. of is its event, nil for none. It returns false if the outbox is full.
func (o *outbox) push(f wire.Frame, of *wire.Envelope) bool {
	if len(o.frames) >= maxQueuedFrames || o.bytes+len(f) > maxQueuedBytes {
		return false
	}
	if o.oldest == nil {
		o.oldest = of
	}
	o.add(f)
	return true
}

// add adds a frame without checking the bounds: close frames always fit.
func (o *outbox) add(f wire.Frame) {
	if len(o.frames) == cap(o.frames) && len(o.frames) <= len(o.room) {
		o.frames = append(make([]wire.Frame, 0, backlog), o.frames...)
	}
	o.frames = append(o.frames, f)
	o.bytes += len(f)
}

// pushFront puts a frame before all others.
func (o *outbox) pushFront(f wire.Frame) {
	o.frames = append([]wire.Frame{f}, o.frames...)
	o.bytes += len(f)
}

// clear drops all frames. The writer stays the same.
func (o *outbox) clear() {
	o.frames, o.bytes, o.oldest = nil, 0, nil
}

// claim makes a flusher the writer, if the outbox has frames and no writer. If it returns true, the caller gives the session to the
// flushers.
func (o *outbox) claim() bool {
	if o.hand != nobody || len(o.frames) == 0 {
		return false
	}
	o.hand = flusher
	return true
}

// release leaves the outbox without a writer, and wakes the callers that wait for that.
func (o *outbox) release() {
	o.hand, o.inHand = nobody, 0
	if o.released != nil {
		close(o.released)
		o.released = nil
	}
}

// awaitRelease returns a channel that is closed on the next release.
func (o *outbox) awaitRelease() <-chan struct{} {
	if o.released == nil {
		o.released = make(chan struct{})
	}
	return o.released
}

// pop removes frames as one piece of at most coalesce bytes, or a single frame if it is longer. Several frames are copied into buf. It
// returns nil for an empty outbox, and frees its memory. of is the first event among those not yet written.
func (o *outbox) pop(buf []byte) (piece []byte, of *wire.Envelope) {
	if len(o.frames) == 0 {
		o.frames = o.room[:0]
		return nil, nil
	}
	n := 0
	for n < len(o.frames) && (n == 0 || len(piece)+len(o.frames[n]) <= coalesce) {
		switch n {
		case 0:
			piece = o.frames[0]
		case 1:
			piece = append(append(buf[:0], piece...), o.frames[1]...)
		default:
			piece = append(piece, o.frames[n]...)
		}
		o.bytes -= len(o.frames[n])
		o.frames[n] = nil
		n++
	}
	o.frames = o.frames[n:]
	o.inHand = len(piece)
	of = o.oldest
	if len(o.frames) == 0 {
		o.oldest = nil
	}
	return piece, of
}

// charge updates the budget with the present size for the owner. If the owner, or all owners, would exceed the budget, it returns false and
// leaves the charge unchanged.
func (o *outbox) charge(b *budget.Budget, owner string) bool {
	need := 0
	if over := o.bytes + o.inHand - freeBytes; over > 0 {
		need = (over + chargeStep - 1) / chargeStep * chargeStep
	}
	switch {
	case b == nil || need == o.charged:
		return true
	case need < o.charged:
		b.Give("user:"+owner, int64(o.charged-need))
	case !b.Take("user:"+owner, int64(need-o.charged)):
		return false
	}
	o.charged = need
	return true
}
