package realtime

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/parley-chat/parley/internal/backoff"
	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/realtime/wire"
	"github.com/parley-chat/parley/internal/timestamp"
)

const (
	// rereadEvery is the time within which all states are read again, in rereadSlices slices, so that lost events are corrected.
	rereadEvery  = 30 * time.Second
	rereadSlices = 30
	// rereadAfter is the time from when Redis is available again until all states are read: by then pods have renewed their open sockets.
	rereadAfter = 2500 * time.Millisecond
	// lostFor is how long Redis must have no state of a user who was online before the user is reported offline.
	lostFor = 3 * time.Second
	// gather is how long the changes of a burst are collected, batchSize how many users are processed at once, and
	// batchWait bounds the queries of a batch.
	gather      = 10 * time.Millisecond
	batchSize   = 200
	batchWait   = 6 * time.Second
	failedPause = time.Second
)

// heard processes a message of a user's presence channel.
func (w *watches) heard(userID string, n event.PresenceNews) {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := w.users[userID]
	if t == nil {
		return
	}
	if !n.Recheck && !t.update(n.PresenceState) {
		w.counts.dropped.Inc()
		return
	}
	w.changed[userID] = true
	if n.Recheck && !t.known {
		w.unread[userID] = true
	}
	w.poke()
}

// update replaces the state by a newer one. It returns false if s is not newer.
func (t *watched) update(s event.PresenceState) bool {
	if t.known && s.Version <= t.state.Version {
		return false
	}
	t.state, t.known, t.lostAt = s, true, time.Time{}
	return true
}

// wasOnline reports whether the user was online by the state that was read last or, if none was read yet, by what a socket was shown.
func (t *watched) wasOnline() bool {
	if t.known {
		return t.state.Online
	}
	for _, v := range t.views {
		if v == online {
			return true
		}
	}
	return false
}

// related records that a viewer may have a new friend or peer, or may see other users than before.
func (w *watches) related(viewerID, otherID string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.joined[viewerID] = true
	if otherID != "" {
		w.changed[otherID] = true
	}
	w.poke()
}

// back schedules a read of all states: Redis was unavailable, and events of that time are lost.
func (w *watches) back() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rereadAt = time.Now().Add(rereadAfter)
}

// run sends changes until ctx ends.
func (w *watches) run(ctx context.Context) error {
	slice := time.NewTicker(rereadEvery / rereadSlices)
	defer slice.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-slice.C:
			w.reread(time.Now())
		case <-w.wake:
			backoff.Wait(ctx, gather)
		}
		for w.processBatch(ctx) {
			if ctx.Err() != nil {
				return nil
			}
		}
	}
}

// reread marks users to be read: a slice of them, or all, and those whose state Redis did not have.
func (w *watches) reread(now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := !w.rereadAt.IsZero() && now.After(w.rereadAt)
	if all {
		w.rereadAt = time.Time{}
	}
	slice := uint64(now.Unix()) % rereadSlices //nolint:gosec // it is not negative
	for u, t := range w.users {
		if all || !t.known || !t.lostAt.IsZero() && now.Sub(t.lostAt) >= lostFor || w.hub.userHash(u)%rereadSlices == slice {
			w.unread[u] = true
		}
	}
}

// processBatch processes one batch of each waiting set. It returns false if nothing is left, or after a failure.
func (w *watches) processBatch(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, batchWait)
	defer cancel()
	viewers, unread, changed := w.takeWaiting()
	if len(viewers)+len(unread)+len(changed) == 0 {
		return false
	}
	err := w.refresh(ctx, viewers)
	if err == nil {
		err = w.read(ctx, unread)
	}
	if err == nil {
		err = w.deliver(ctx, append(changed, unread...))
	}
	if err == nil {
		return true
	}
	w.counts.errors.Inc()
	w.hub.log.Debug("presence could not be delivered and is retried", "error", err)
	w.putBack(viewers, unread, changed)
	backoff.Wait(ctx, failedPause)
	return false
}

// takeWaiting removes and returns one batch of each waiting set.
func (w *watches) takeWaiting() (viewers, unread, changed []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return takeSome(w.joined), takeSome(w.unread), takeSome(w.changed)
}

// takeSome removes up to batchSize users from a set.
func takeSome(set map[string]bool) []string {
	var out []string
	for u := range set {
		if len(out) == batchSize {
			break
		}
		out = append(out, u)
		delete(set, u)
	}
	return out
}

// putBack queues a failed batch again.
func (w *watches) putBack(viewers, unread, changed []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, u := range viewers {
		w.joined[u] = true
	}
	for _, u := range unread {
		w.unread[u] = true
	}
	for _, u := range changed {
		w.changed[u] = true
	}
	w.poke()
}

// refresh makes viewers' sockets watch new friends and peers. Former ones stay watched, with the visibility of strangers.
func (w *watches) refresh(ctx context.Context, viewers []string) error {
	if len(viewers) == 0 {
		return nil
	}
	pairs, err := w.presences.Peers(ctx, viewers)
	if err != nil {
		return err
	}
	peers := map[string][]string{}
	for _, p := range pairs {
		peers[p.Viewer] = append(peers[p.Viewer], p.Target)
	}
	for viewer, targets := range peers {
		for _, s := range w.hub.sessionsOf(viewer) {
			if fresh := w.add(s, targets, false); len(fresh) > 0 {
				w.activate(s, fresh, nil)
			}
		}
	}
	return nil
}

// read reads users' states from Redis. If Redis has no state of a user who was online, the state is kept for lostFor.
func (w *watches) read(ctx context.Context, users []string) error {
	if len(users) == 0 {
		return nil
	}
	states, err := w.presences.States(ctx, users)
	if err != nil {
		return err
	}
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, u := range users {
		t, s := w.users[u], states[i]
		switch {
		case t == nil:
		case s.Version > 0 || !t.wasOnline():
			t.update(s)
			t.lostAt = time.Time{}
		case t.lostAt.IsZero():
			t.lostAt = now
		case now.Sub(t.lostAt) >= lostFor:
			t.state, t.known, t.lostAt = s, true, time.Time{}
		}
	}
	return nil
}

// glance is a socket and a watched user whose view has to be checked.
type glance struct {
	session *Session
	pair    event.PresencePair
}

// deliver sends the differences between the present state and the sockets' views.
func (w *watches) deliver(ctx context.Context, users []string) error {
	glances := w.glances(users)
	for len(glances) > 0 {
		n := min(len(glances), 10*batchSize)
		pairs := map[event.PresencePair]bool{}
		for _, g := range glances[:n] {
			pairs[g.pair] = true
		}
		visible, err := w.presences.Visible(ctx, slices.Collect(maps.Keys(pairs)))
		if err != nil {
			return err
		}
		w.mu.Lock()
		for _, g := range glances[:n] {
			seen, may := visible[g.pair]
			w.show(g, may, seen)
		}
		w.mu.Unlock()
		glances = glances[n:]
	}
	return nil
}

// glances returns the sockets to check. Sockets with the view hidden are skipped for a user who is offline, as nothing can change.
func (w *watches) glances(users []string) []glance {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []glance
	done := map[string]bool{}
	for _, u := range users {
		t := w.users[u]
		if t == nil || !t.known || done[u] {
			continue
		}
		done[u] = true
		for s, v := range t.views {
			if v != pending && (t.state.Online || v != hidden) {
				out = append(out, glance{s, event.PresencePair{Viewer: s.UserID, Target: u}})
			}
		}
	}
	return out
}

// show updates a socket's view and sends a frame if it changed. The lock is held.
func (w *watches) show(g glance, may bool, seen int64) {
	t := w.users[g.pair.Target]
	if t == nil {
		return
	}
	was, watching := t.views[g.session]
	if !watching || was == pending {
		return
	}
	now := hidden
	var at *timestamp.Time
	switch {
	case may && t.state.Online:
		now = online
	case may:
		if at = event.At(max(seen, t.state.Seen)); at != nil {
			now = offline
		}
	}
	t.views[g.session] = now
	switch {
	case now == was:
	case now == online:
		w.counts.online.Inc()
		g.session.Send(event.TypePresenceOnline, wire.NewFrame(event.TypePresenceOnline, event.PresenceChange{UserID: t.userID}))
	case was == online, was == offline && now == hidden:
		w.counts.offline.Inc()
		g.session.Send(event.TypePresenceOffline, wire.NewFrame(event.TypePresenceOffline, event.PresenceChange{UserID: t.userID, LastSeenAt: at}))
	}
	if !may {
		w.counts.hidden.Inc()
	}
}
