package realtime

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/parley-chat/parley/internal/backoff"
	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/history"
	"github.com/parley-chat/parley/internal/realtime/wire"
	"github.com/parley-chat/parley/internal/rediskey"
)

// The time over which clients spread their syncs after a new epoch: one second for each resyncPace sockets, within bounds.
const (
	resyncPace  = 100
	resyncLeast = 5 * time.Second
	resyncMost  = 2 * time.Minute
	// rejoinWorkers is how many sockets read their conversations at once after a new epoch, rejoinPause the pause after a failure.
	rejoinWorkers = 4
	rejoinPause   = 500 * time.Millisecond
)

// Sessions is the part of the auth domain that the hub needs.
type Sessions interface {
	// Living reads which of the sessions exist and have not ended.
	Living(ctx context.Context, sessionIDs []string) (map[string]bool, error)
}

// A topic (the sessions of a conversation's members, and the revision delivered last) is valid in one history only. So a topic belongs to
// a generation. A new epoch begins the next generation: topics of older ones are dead, memberships that were read before attach no
// session, and events of pods with another epoch are ignored. Then each socket reads its conversations again, as a new one does, and its
// client is asked to sync.
//
//	database          old history          | new history
//	generation        7                    | 8
//	topics            members, revisions   X empty ── rejoin ──► members, revisions
//	sockets           get events           | get nothing          get events, "resync"

// epoch is the epoch of the topics, "" if unknown.
func (h *Hub) epoch() string {
	if e := h.present.Load(); e != nil {
		return *e
	}
	if h.history == nil {
		return ""
	}
	return h.history.ID()
}

// Epoch is the identity of the history that the pod works with, "" if unknown.
func (h *Hub) Epoch() string { return h.epoch() }

// betweenEpochs is a value that no epoch has. It is the present epoch while begin removes the topics, so that no event matches.
var betweenEpochs = "between"

// foreign reports whether a message comes from a pod with another history, by the message's epoch. If so, this pod reads the epoch of the
// database again. Pods of releases without epochs send "", which is never foreign.
func (h *Hub) foreign(epoch string) bool {
	if epoch == "" || h.history == nil || h.epoch() == epoch {
		return false
	}
	h.history.Suspect()
	return true
}

// begin starts the next generation and removes all topics. The Watch calls it before this pod reads or publishes data of the new history.
func (h *Hub) begin(e history.Epoch) {
	h.present.Store(&betweenEpochs)
	h.generation.Add(1)
	for i := range h.topics {
		sh := &h.topics[i]
		sh.mu.Lock()
		for id, t := range sh.m {
			t.end()
			delete(sh.m, id)
			h.channels.remove(rediskey.ConversationChannel(id))
		}
		sh.mu.Unlock()
	}
	h.present.Store(&e.ID)
	select {
	case h.rejoins <- struct{}{}:
	default:
	}
}

// end ends a topic of an earlier history.
func (t *topic) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.dead = true
	for _, s := range t.sessions {
		s.forget(t)
		s.forgetLeaves()
	}
	t.sessions, t.pending, t.typing, t.awaitedJoin = nil, nil, nil, 0
}

// forgetLeaves clears the conversations that the session left, because revisions of an earlier history are not comparable.
func (s *Session) forgetLeaves() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left = nil
}

// rejoin attaches all sockets to their conversations again whenever another history has begun, until ctx ends.
func (h *Hub) rejoin(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-h.rejoins:
		}
		h.rejoinAll(ctx)
	}
}

func (h *Hub) rejoinAll(ctx context.Context) {
	start := time.Now()
	var list []*Session
	h.each(func(s *Session) { list = append(list, s) })
	if !h.endLost(ctx, list) {
		return
	}
	within := resyncWithin(len(list))
	rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	work := make(chan *Session)
	done := make(chan struct{}, rejoinWorkers)
	for range rejoinWorkers {
		go func() {
			defer func() { done <- struct{}{} }()
			for s := range work {
				h.rejoinOne(ctx, s, within)
			}
		}()
	}
	for _, s := range list {
		work <- s
	}
	close(work)
	for range rejoinWorkers {
		<-done
	}
	h.log.Info("sockets have joined the conversations of the new history", slog.Int("sockets", len(list)), slog.String("epoch", h.epoch()),
		slog.String("duration", time.Since(start).Round(time.Millisecond).String()))
}

// rejoinOne attaches one socket, and asks its client to sync. Commits after the sync's response are delivered live.
func (h *Hub) rejoinOne(ctx context.Context, s *Session, within time.Duration) {
	for ctx.Err() == nil {
		epoch, err := h.joinPresent(ctx, s)
		if err == nil {
			s.Send(event.TypeResync, wire.NewFrame(event.TypeResync, event.Resync{Epoch: epoch, WithinSeconds: int(within / time.Second)}))
			return
		}
		h.repairs.reads.Fail(ctx, err, "user_id", s.UserID)
		backoff.Wait(ctx, rejoinPause)
	}
}

// endLost closes the sockets of logins that do not exist in the new history, or have ended. It returns false if ctx ended.
func (h *Hub) endLost(ctx context.Context, list []*Session) bool {
	if h.sessions == nil || len(list) == 0 {
		return ctx.Err() == nil
	}
	seen := map[string]bool{}
	var ids []string
	for _, s := range list {
		if s.SessionID != "" && !seen[s.SessionID] {
			seen[s.SessionID] = true
			ids = append(ids, s.SessionID)
		}
	}
	for ctx.Err() == nil {
		living, err := h.sessions.Living(ctx, ids)
		if err != nil {
			h.repairs.reads.Fail(ctx, err)
			backoff.Wait(ctx, rejoinPause)
			continue
		}
		for _, id := range ids {
			if !living[id] {
				h.EndSessions(id)
			}
		}
		return true
	}
	return false
}

func resyncWithin(sockets int) time.Duration {
	return min(max(resyncLeast, time.Duration(sockets/resyncPace)*time.Second), resyncMost)
}

// Resync asks all clients to sync, because frames that are not repaired may have been missed.
func (h *Hub) Resync() {
	var list []*Session
	h.each(func(s *Session) { list = append(list, s) })
	h.resync(list)
}

// ResyncUsers asks the clients of some users to sync.
func (h *Hub) ResyncUsers(userIDs []string) {
	var list []*Session
	for _, u := range userIDs {
		list = append(list, h.sessionsOf(u)...)
	}
	h.resync(list)
}

func (h *Hub) resync(list []*Session) {
	frame := wire.NewFrame(event.TypeResync, event.Resync{Epoch: h.epoch(), WithinSeconds: int(resyncWithin(len(list)) / time.Second)})
	for _, s := range list {
		s.Send(event.TypeResync, frame)
	}
}
