package receipt

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/parley-chat/parley/internal/event"
)

const (
	// tellEvery is the pause between two rounds of telling, tellAgain the least time between two frames of one message.
	tellEvery = 250 * time.Millisecond
	tellAgain = time.Second
	// tellMessages and tellPending bound what one round reads.
	tellMessages = 256
	tellPending  = 50_000
	// tellWaiting bounds the messages that wait to be told of. Those beyond are left: receipts are read by REST too.
	tellWaiting = 1 << 14
	tellWait    = 5 * time.Second
)

// teller tells senders who has read their messages in groups: at once where it is quiet, and in a burst once a second for
// a message, with the count of all.
type teller struct {
	store    *store
	buffer   *buffer
	notifier Notifier
	metrics  *Metrics
	log      *slog.Logger

	mu      sync.Mutex // guards what follows
	waiting map[string]bool
	wake    chan struct{}

	told map[string]time.Time // messages that were told lately; of run's goroutine alone
}

func newTeller(s *store, b *buffer, n Notifier, m *Metrics, log *slog.Logger) *teller {
	return &teller{store: s, buffer: b, notifier: n, metrics: m, log: log, waiting: map[string]bool{}, wake: make(chan struct{}, 1), told: map[string]time.Time{}}
}

// note wants a message told of.
func (t *teller) note(messageID string) {
	t.mu.Lock()
	switch {
	case t.waiting[messageID]:
		t.metrics.coalesced.Inc()
	case len(t.waiting) < tellWaiting:
		t.waiting[messageID] = true
	}
	t.mu.Unlock()
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// tell tells a sender of the latest read.
func (t *teller) tell(x tally) {
	t.metrics.frames.Inc()
	t.notifier.Notify(event.ReceiptNotice(x.senderID, event.ReceiptRead{
		ConversationID: x.conversationID, MessageID: x.messageID, UserID: x.latest, ReadAt: at(x.at), Count: x.count,
	}))
}

// run tells until ctx ends, and then once more.
func (t *teller) run(ctx context.Context) {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			t.round(time.Now().Add(tellAgain))
			return
		case <-t.wake:
		}
		select {
		case <-ctx.Done():
			t.round(time.Now().Add(tellAgain))
			return
		case <-pause.C:
		}
		if t.round(time.Now()) {
			select {
			case t.wake <- struct{}{}:
			default:
			}
		}
		pause.Reset(tellEvery)
	}
}

// round tells of the messages that are due, and whether any are left.
func (t *teller) round(now time.Time) (left bool) {
	messages := t.due(now)
	if len(messages) > 0 {
		t.tellAll(messages)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.waiting) > 0
}

func (t *teller) due(now time.Time) []string {
	for m, at := range t.told {
		if now.Sub(at) >= tellAgain {
			delete(t.told, m)
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []string
	for m := range t.waiting {
		if _, lately := t.told[m]; !lately {
			out = append(out, m)
			delete(t.waiting, m)
			t.told[m] = now
		}
		if len(out) == tellMessages {
			break
		}
	}
	return out
}

// tellAll notifies the senders of messages. If Redis or Postgres is unavailable the messages wait for a later round.
func (t *teller) tellAll(messages []string) {
	ctx, cancel := context.WithTimeout(context.Background(), tellWait)
	defer cancel()
	for len(messages) > 0 {
		var pending []row
		n := 0
		for n < len(messages) && len(pending) < tellPending {
			readers, err := t.buffer.readers(ctx, messages[n])
			if err != nil {
				t.later(messages, err)
				return
			}
			pending = append(pending, readers...)
			n++
		}
		tallies, err := t.store.tallies(ctx, messages[:n], pending)
		if err != nil {
			t.later(messages, err)
			return
		}
		for _, x := range tallies {
			t.tell(x)
		}
		messages = messages[n:]
	}
}

// later puts messages back whose senders could not be notified. due leaves them alone for tellAgain.
func (t *teller) later(messages []string, err error) {
	t.log.Debug("senders are not notified of receipts yet", "error", err)
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, m := range messages {
		if len(t.waiting) < tellWaiting {
			t.waiting[m] = true
		}
	}
}
