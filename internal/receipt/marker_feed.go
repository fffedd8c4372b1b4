package receipt

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

const (
	// feedEvery is the least time between two rounds, feedAgain between two publications of one conversation's markers.
	feedEvery = 250 * time.Millisecond
	feedAgain = time.Second
	// feedPlaces bounds the markers of one round; the last conversation may exceed it.
	feedPlaces = 2000
	// feedWaiting bounds the waiting markers. Further ones are dropped: members read them by REST.
	feedWaiting = 1 << 16
	feedWait    = 5 * time.Second
)

// markerFeed publishes moved read markers to the other members: at once in a quiet conversation, and during a burst once a second,
// with all members who have read meanwhile. It publishes the present markers, so a repetition does no harm.
type markerFeed struct {
	store      *store
	buffer     *buffer
	notifier   Notifier
	maxMembers int
	log        *slog.Logger
	wake       chan struct{}

	mu      sync.Mutex                 // guards the next two fields
	waiting map[string]map[string]bool // by conversation, the members whose markers moved
	size    int                        // of all sets of waiting

	published map[string]time.Time // conversations published within feedAgain; used by run's goroutine only
}

func newMarkerFeed(s *store, b *buffer, n Notifier, maxMembers int, log *slog.Logger) *markerFeed {
	return &markerFeed{
		store: s, buffer: b, notifier: n, maxMembers: maxMembers, log: log,
		wake: make(chan struct{}, 1), waiting: map[string]map[string]bool{}, published: map[string]time.Time{},
	}
}

// noteMoved queues the markers that reads moved. It leaves out markers that are not shown to other members: of readers who hide receipts, in
// conversations with too many members, and those that are not beyond the highest seq that the reader ever read.
func (f *markerFeed) noteMoved(batch []stored) {
	if f.maxMembers == 0 {
		return
	}
	noted := false
	f.mu.Lock()
	for _, r := range batch {
		if r.moved && (!r.looked || r.shows && r.members <= f.maxMembers && r.seq > r.highSeq) {
			noted = f.add(markerPlace{r.conversationID, r.userID}) || noted
		}
	}
	f.mu.Unlock()
	if noted {
		f.rouse()
	}
}

func (f *markerFeed) rouse() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// add queues one marker; the caller holds mu. A conversation has at most maxMembers waiting readers: with more of them it is too large
// for the feed.
func (f *markerFeed) add(p markerPlace) bool {
	readers := f.waiting[p.conversationID]
	if readers[p.userID] || len(readers) >= f.maxMembers || f.size >= feedWaiting {
		return false
	}
	if readers == nil {
		readers = map[string]bool{}
		f.waiting[p.conversationID] = readers
	}
	readers[p.userID] = true
	f.size++
	return true
}

// run publishes until ctx ends, and then once more.
func (f *markerFeed) run(ctx context.Context) {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			f.round(time.Now().Add(feedAgain))
			return
		case <-f.wake:
		}
		select {
		case <-ctx.Done():
			f.round(time.Now().Add(feedAgain))
			return
		case <-pause.C:
		}
		if f.round(time.Now()) {
			f.rouse()
		}
		pause.Reset(feedEvery)
	}
}

// round publishes the markers that are due. It reports whether any still wait.
func (f *markerFeed) round(now time.Time) (left bool) {
	if due := f.takeDue(now); len(due) > 0 {
		f.publish(due)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.size > 0
}

// takeDue removes and returns the waiting markers of conversations that were not published within feedAgain.
func (f *markerFeed) takeDue(now time.Time) []markerPlace {
	for c, at := range f.published {
		if now.Sub(at) >= feedAgain {
			delete(f.published, c)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var due []markerPlace
	for c, readers := range f.waiting {
		if _, lately := f.published[c]; lately {
			continue
		}
		if len(due) >= feedPlaces {
			break
		}
		for u := range readers {
			due = append(due, markerPlace{c, u})
		}
		f.size -= len(readers)
		delete(f.waiting, c)
		f.published[c] = now
	}
	return due
}

// publish reads markers and publishes them. If Redis or Postgres is unavailable they wait for a later round.
func (f *markerFeed) publish(due []markerPlace) {
	ctx, cancel := context.WithTimeout(context.Background(), feedWait)
	defer cancel()
	pending, err := f.buffer.markersAt(ctx, due) // before Postgres: a marker that is flushed in between is found there
	if err == nil {
		events, storeErr := f.store.moved(ctx, f.maxMembers, due, pending)
		if err = storeErr; err == nil {
			f.notifier.Publish(events...)
			return
		}
	}
	f.log.Debug("members are not notified of read markers yet", "error", err)
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range due {
		f.add(p)
	}
}
