package realtime

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/realtime/wire"
	"github.com/parley-chat/parley/internal/timestamp"
)

const (
	// rereadEvery is in what time all states are read again, one slice after the other: what got lost is told then.
	rereadEvery  = 30 * time.Second
	rereadSlices = 30
	// rereadAfter is when they are read after Redis came back: by then pods have renewed the sockets that live.
	rereadAfter = 2500 * time.Millisecond
	// lostFor is how long Redis must know nothing of one who was online before they are told to be offline.
	lostFor = 3 * time.Second
	// gather is how long changes are gathered that come in a burst, tellBatch how many users are told of at once, and
	// tellWait bounds what a batch asks of Redis and Postgres.
	gather    = 10 * time.Millisecond
	tellBatch = 200
	tellWait  = 6 * time.Second
	tellPause = time.Second
)

// heard takes a user's news.
func (w *watches) heard(userID string, n event.PresenceNews) {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := w.users[userID]
	if t == nil {
		return
	}
	if !n.Recheck && !t.take(n.PresenceState) {
		w.told.dropped.Inc()
		return
	}
	w.changed[userID] = true
	if n.Recheck && !t.known {
		w.unread[userID] = true
	}
	w.poke()
}

// take takes a state that is newer than the one that is known.
func (t *watched) take(s event.PresenceState) bool {
	if t.known && s.Version <= t.state.Version {
		return false
	}
	t.state, t.known, t.lostAt = s, true, time.Time{}
	return true
}

// related takes in that a viewer may have a new friend or peer, or may see others than before.
func (w *watches) related(viewerID, otherID string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.joined[viewerID] = true
	if otherID != "" {
		w.changed[otherID] = true
	}
	w.poke()
}

// back has all states read: Redis was away, and what it told meanwhile is lost.
func (w *watches) back() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rereadAt = time.Now().Add(rereadAfter)
}

// run tells until ctx ends.
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
			wait(ctx, gather)
		}
		for w.work(ctx) {
			if ctx.Err() != nil {
				return nil
			}
		}
	}
}

// reread marks a slice of the users, or all of them, and those of whom Redis knew nothing, to be read.
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

// work does one batch of what waits. It returns false when there is nothing more, or it must wait.
func (w *watches) work(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, tellWait)
	defer cancel()
	viewers, unread, changed := w.next()
	if len(viewers)+len(unread)+len(changed) == 0 {
		return false
	}
	err := w.refresh(ctx, viewers)
	if err == nil {
		err = w.read(ctx, unread)
	}
	if err == nil {
		err = w.tell(ctx, append(changed, unread...))
	}
	if err == nil {
		return true
	}
	w.told.errors.Inc()
	w.hub.log.Debug("presence could not be told, and will be", "error", err)
	w.again(viewers, unread, changed)
	wait(ctx, tellPause)
	return false
}

// next takes what waits.
func (w *watches) next() (viewers, unread, changed []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return takeSome(w.joined), takeSome(w.unread), takeSome(w.changed)
}

func takeSome(set map[string]bool) []string {
	var out []string
	for u := range set {
		if len(out) == tellBatch {
			break
		}
		out = append(out, u)
		delete(set, u)
	}
	return out
}

// again puts back what could not be done.
func (w *watches) again(viewers, unread, changed []string) {
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

// refresh has viewers' sockets watch friends and peers that are new. Who is none any more is watched on, as a stranger.
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

// read reads users' states from Redis.
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
		case s.Version > 0 || !t.known || !t.state.Online:
			t.take(s)
			t.lostAt = time.Time{}
		case t.lostAt.IsZero():
			t.lostAt = now
		case now.Sub(t.lostAt) >= lostFor:
			t.state, t.lostAt = s, time.Time{}
		}
	}
	return nil
}

// glance is what one socket was told of a user, and what is true.
type glance struct {
	session *Session
	pair    event.PresencePair
}

// tell tells sockets what is not as they were told last.
func (w *watches) tell(ctx context.Context, users []string) error {
	glances := w.glances(users)
	for len(glances) > 0 {
		n := min(len(glances), 10*tellBatch)
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

// glances are the sockets to look at: not those that know already that one who is offline is.
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

// show tells a socket, where it may see the user, what it was not told. The lock is held.
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
		w.told.online.Inc()
		g.session.Send(event.TypePresenceOnline, wire.NewFrame(event.TypePresenceOnline, event.PresenceChange{UserID: t.userID}))
	case was == online, was == offline && now == hidden:
		w.told.offline.Inc()
		g.session.Send(event.TypePresenceOffline, wire.NewFrame(event.TypePresenceOffline, event.PresenceChange{UserID: t.userID, LastSeenAt: at}))
	}
	if !may {
		w.told.hidden.Inc()
	}
}
