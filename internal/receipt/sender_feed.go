package receipt

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/parley-chat/parley/internal/event"
)

const (
	// notifyEvery is the pause between two rounds, notifyAgain the shortest time between two frames for one message.
	notifyEvery = 250 * time.Millisecond
	notifyAgain = time.Second
	// roundMessages and roundPending bound the messages and pending reads of one round.
	roundMessages = 256
	roundPending  = 50_000
	// sendersWaiting bounds the waiting messages. Further ones are dropped: their senders read receipts by REST.
	sendersWaiting = 1 << 14
	notifyWait     = 5 * time.Second
)

// senderFeed notifies senders of reads of their messages in groups: at once if there was no frame for the message within
// notifyAgain, otherwise once per notifyAgain with the latest read and the count of all.
type senderFeed struct {
	store    *store
	buffer   *buffer
	notifier Notifier
	metrics  *Metrics
	log      *slog.Logger

	mu      sync.Mutex      // guards waiting
	waiting map[string]bool // messages
	wake    chan struct{}

	notified map[string]time.Time // messages with a frame within notifyAgain; used by run's goroutine only
}

func newSenderFeed(s *store, b *buffer, n Notifier, m *Metrics, log *slog.Logger) *senderFeed {
	return &senderFeed{store: s, buffer: b, notifier: n, metrics: m, log: log, waiting: map[string]bool{}, wake: make(chan struct{}, 1), notified: map[string]time.Time{}}
}

// noteRead queues a message whose sender has to be notified.
func (t *senderFeed) noteRead(messageID string) {
	t.mu.Lock()
	switch {
	case t.waiting[messageID]:
		t.metrics.coalesced.Inc()
	case len(t.waiting) < sendersWaiting:
		t.waiting[messageID] = true
	}
	t.mu.Unlock()
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// notify publishes the latest read and the count to a sender.
func (t *senderFeed) notify(x tally) {
	t.metrics.frames.Inc()
	t.notifier.Notify(event.ReceiptNotice(x.senderID, event.ReceiptRead{
		ConversationID: x.conversationID, MessageID: x.messageID, UserID: x.latest, ReadAt: at(x.at), Count: x.count,
	}))
}

// run notifies senders until ctx ends, and then once more.
func (t *senderFeed) run(ctx context.Context) {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			t.round(time.Now().Add(notifyAgain))
			return
		case <-t.wake:
		}
		select {
		case <-ctx.Done():
			t.round(time.Now().Add(notifyAgain))
			return
		case <-pause.C:
		}
		if t.round(time.Now()) {
			select {
			case t.wake <- struct{}{}:
			default:
			}
		}
		pause.Reset(notifyEvery)
	}
}

// round notifies the senders of messages that are due. It reports whether any messages still wait.
func (t *senderFeed) round(now time.Time) (left bool) {
	messages := t.takeDue(now)
	if len(messages) > 0 {
		t.notifySenders(messages)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.waiting) > 0
}

// takeDue removes and returns the waiting messages that had no frame within notifyAgain.
func (t *senderFeed) takeDue(now time.Time) []string {
	for m, at := range t.notified {
		if now.Sub(at) >= notifyAgain {
			delete(t.notified, m)
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []string
	for m := range t.waiting {
		if _, lately := t.notified[m]; !lately {
			out = append(out, m)
			delete(t.waiting, m)
			t.notified[m] = now
		}
		if len(out) == roundMessages {
			break
		}
	}
	return out
}

// notifySenders notifies the senders of messages, in portions of roundPending pending reads. If Redis or Postgres is unavailable the messages wait for a later round.
func (t *senderFeed) notifySenders(messages []string) {
	ctx, cancel := context.WithTimeout(context.Background(), notifyWait)
	defer cancel()
	for len(messages) > 0 {
		var pending []pendingReceipt
		n := 0
		for n < len(messages) && len(pending) < roundPending {
			readers, err := t.buffer.readers(ctx, messages[n])
			if err != nil {
				t.putBack(messages, err)
				return
			}
			pending = append(pending, readers...)
			n++
		}
		tallies, err := t.store.tallies(ctx, messages[:n], pending)
		if err != nil {
			t.putBack(messages, err)
			return
		}
		for _, x := range tallies {
			t.notify(x)
		}
		messages = messages[n:]
	}
}

// putBack queues messages again whose senders could not be notified. takeDue returns them after notifyAgain.
func (t *senderFeed) putBack(messages []string, err error) {
	t.log.Debug("senders are not notified of receipts yet", "error", err)
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, m := range messages {
		if len(t.waiting) < sendersWaiting {
			t.waiting[m] = true
		}
	}
}
