package httpapi

import (
	"context"
	"errors"
	"sync"

	"go.opentelemetry.io/otel/trace"

	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/message"
)

// sendQueue queues sends for their commits.
type sendQueue interface {
	Begin(ctx context.Context, lane *message.Lane, conversationID, senderID string, d *message.Draft) (message.Queued, error)
}

// maxSends is how many sends of one socket may wait for their commits. Beyond it, the next send is queued when one of them was answered.
const maxSends = 64

// sends is a socket's queue of sends that wait for their commits. They are committed and answered in the order of their frames. The goroutine of
// the frame that found the queue empty answers all of them until it is empty again, so a socket that sends nothing needs no goroutine.
//
//	reader ── check, limit, Begin ──► waiting ── commit ──► answered, the oldest first
type sends struct {
	lane message.Lane

	mu       sync.Mutex // guards the following fields
	waiting  []*sending // the sends from index first on; earlier elements are nil
	first    int
	answered *sync.Cond // signals that a send was answered; nil until await needs it
}

// sending is a send that waits for its commit, or that failed before it was queued (err).
type sending struct {
	command command
	ctx     context.Context //nolint:containedctx // of the frame, with its time and trace
	cancel  context.CancelFunc
	span    trace.Span
	begun   message.Queued
	err     error
}

// push adds a send. It returns true if the queue was empty: the caller then has to answer this send and all that follow.
func (q *sends) push(x *sending) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = append(q.waiting, x)
	return q.count() == 1
}

// pop removes the first send, after it was answered. It returns the next one, nil if there is none. It compacts the slice when it is empty or
// maxSends sends were removed.
func (q *sends) pop() *sending {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting[q.first] = nil
	q.first++
	if q.answered != nil {
		q.answered.Broadcast()
	}
	if q.count() > 0 && q.first < maxSends {
		return q.waiting[q.first]
	}
	q.waiting = append(q.waiting[:0], q.waiting[q.first:]...)
	clear(q.waiting[len(q.waiting):cap(q.waiting)])
	q.first = 0
	if len(q.waiting) == 0 {
		return nil
	}
	return q.waiting[0]
}

// count returns how many sends wait. The lock is held.
func (q *sends) count() int { return len(q.waiting) - q.first }

// await waits until at most n sends wait. The deadline of each send bounds it. A nil q is empty.
func (q *sends) await(n int) {
	if q == nil {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.count() > n {
		if q.answered == nil {
			q.answered = sync.NewCond(&q.mu)
		}
		q.answered.Wait()
	}
}

// send processes a message:send. It calls release once the send is queued, so that the next frame is read before the commit.
func (r *reader) send(c command, err error, release func()) {
	if r.sends == nil {
		r.sends = &sends{}
	}
	r.sends.await(maxSends - 1)
	x := &sending{command: c, err: err}
	x.ctx, x.cancel = r.frameContext()
	x.ctx, x.span = r.trace(x.ctx, c)
	if err == nil {
		x.err = r.guarded(x.ctx, c, func() (err error) {
			x.begun, err = r.begin(x.ctx, c)
			return err
		})
	}
	x.command.data = nil // it refers to the frame's buffer, which is reused after release
	first := r.sends.push(x)
	release()
	for first && x != nil {
		r.answerSend(x)
		x = r.sends.pop()
	}
}

// begin checks a send, applies its sender's limit and queues it.
func (r *reader) begin(ctx context.Context, c command) (message.Queued, error) {
	var in sendData
	if err := decodeData(c.data, &in); err != nil {
		return message.Queued{}, err
	}
	if !id.Valid(in.ConversationID) {
		return message.Queued{}, message.ErrConversationNotFound
	}
	if err := r.server.guardSend(ctx, r.session.UserID); err != nil {
		return message.Queued{}, err
	}
	r.server.noteActive(nil, r.principal())
	in.draft.SetSocket(r.session.ID)
	return r.server.Messages.Begin(ctx, &r.sends.lane, in.ConversationID, r.session.UserID, &in.draft)
}

// answerSend waits for a send's commit and sends the response.
func (r *reader) answerSend(x *sending) {
	defer r.recovered() // after a panic the next send is still answered
	defer x.cancel()
	defer x.span.End()
	err := x.err
	if err == nil {
		err = r.guarded(x.ctx, x.command, func() error {
			m, _, err := x.begun.Wait(x.ctx)
			if err == nil && x.command.id != "" {
				r.session.Reply(event.TypeAck, x.command.id, &m)
			}
			return err
		})
	}
	if err != nil && !errors.Is(err, errInternal) {
		r.session.Reply(event.TypeError, x.command.id, r.problem(x.ctx, x.command, err))
	}
}
