package receipt

import (
	"context"
	_ "embed"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/rediskey"
	"github.com/parley-chat/parley/internal/timestamp"
)

var (
	//go:embed markers.sql
	markersSQL string
	//go:embed moved.sql
	movedSQL string
)

// MarkersOf returns the markers of a conversation's members as the viewer may see them, including pending reads. Members who hide
// receipts and members across a block are left out; a viewer who hides receipts gets none. If Redis is unavailable pending reads are
// left out. It returns ErrNoConversation if the viewer is not a member.
func (s *Service) MarkersOf(ctx context.Context, viewerID, conversationID string) ([]event.Marker, error) {
	members, shows, err := s.store.membersFor(ctx, conversationID, viewerID)
	if err != nil {
		return nil, err
	}
	if !shows {
		return []event.Marker{}, nil
	}
	places := make([]markerPlace, len(members))
	for i, m := range members {
		places[i] = markerPlace{conversationID, m}
	}
	// Redis is read before Postgres: a marker that is flushed in between is found there.
	return s.store.markers(ctx, conversationID, viewerID, places, s.pendingMarkers(ctx, places))
}

// pendingMarkers reads the markers in Redis, zero markers if it is unavailable.
func (s *Service) pendingMarkers(ctx context.Context, places []markerPlace) []chat.PendingMarker {
	if s.redis.Open() {
		return make([]chat.PendingMarker, len(places))
	}
	wait, cancel := context.WithTimeout(ctx, keepWait)
	defer cancel()
	pending, err := s.buffer.markersAt(wait, places)
	if err != nil {
		if ctx.Err() == nil {
			s.redis.Fail(err)
		}
		return make([]chat.PendingMarker, len(places))
	}
	return pending
}

// markerPlace identifies a marker: a member of a conversation.
type markerPlace struct {
	conversationID, userID string
}

// markersAt reads the pending marker of each place, a zero marker if there is none. Most members have none: one command finds them in
// the index of dirty readers, and the hashes of the others are read in one pipeline.
func (b *buffer) markersAt(ctx context.Context, places []markerPlace) ([]chat.PendingMarker, error) {
	out := make([]chat.PendingMarker, len(places))
	if len(places) == 0 {
		return out, nil
	}
	users := make([]string, len(places))
	for i, p := range places {
		users[i] = p.userID
	}
	scores, err := b.rdb.ZMScore(ctx, rediskey.DirtyReaders, users...).Result()
	if err != nil {
		return nil, fmt.Errorf("look up dirty readers: %w", err)
	}
	held := map[int]*redis.SliceCmd{}
	pipe := b.rdb.Pipeline()
	for i, p := range places {
		if scores[i] > 0 {
			held[i] = pipe.HMGet(ctx, b.keys.ReadMarkers(p.userID), p.conversationID, tagOf(p.conversationID))
		}
	}
	if len(held) == 0 {
		return out, nil
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, fmt.Errorf("read pending markers: %w", err)
	}
	for i, cmd := range held {
		fields := map[string]string{}
		for n, name := range []string{places[i].conversationID, tagOf(places[i].conversationID)} {
			if v, ok := cmd.Val()[n].(string); ok {
				fields[name] = v
			}
		}
		out[i], _, _ = parseMarker(fields, places[i].conversationID)
	}
	return out, nil
}

// membersFor reads the members who share receipts, and whether the viewer does. It returns ErrNoConversation if the viewer is not a
// member.
func (s *store) membersFor(ctx context.Context, conversationID, viewerID string) (members []string, shows bool, err error) {
	isMember := false
	err = postgres.Each(ctx, s.db, func(r postgres.Row) error {
		isMember = true
		var member *string
		if err := r.Scan(&shows, &member); err != nil {
			return err
		}
		if member != nil {
			members = append(members, *member)
		}
		return nil
	}, `SELECT u.read_receipts_enabled, o.user_id
		FROM conversation_members k
		JOIN users u ON u.id = k.user_id
		LEFT JOIN LATERAL (
			SELECT x.user_id FROM conversation_members x JOIN users w ON w.id = x.user_id AND w.read_receipts_enabled
			WHERE x.conversation_id = k.conversation_id AND u.read_receipts_enabled
		) o ON true
		WHERE k.conversation_id = $1 AND k.user_id = $2`, conversationID, viewerID)
	if err != nil {
		return nil, false, fmt.Errorf("look up members who show receipts: %w", err)
	}
	if !isMember {
		return nil, false, ErrNoConversation
	}
	return members, shows, nil
}

// pendingArrays converts pending markers to parameters of a statement.
func pendingArrays(pending []chat.PendingMarker) (seqs []int64, versions []int32, times []*time.Time) {
	seqs, versions, times = make([]int64, len(pending)), make([]int32, len(pending)), make([]*time.Time, len(pending))
	for i, p := range pending {
		seqs[i], versions[i] = p.Seq, int32(p.Version) //nolint:gosec // parsed as 32 bits
		if !p.ReadAt.IsZero() {
			times[i] = &p.ReadAt
		}
	}
	return seqs, versions, times
}

// markers reads a conversation's markers, in the order in which the members joined.
func (s *store) markers(ctx context.Context, conversationID, viewerID string, places []markerPlace, pending []chat.PendingMarker) ([]event.Marker, error) {
	users := make([]string, len(places))
	for i, p := range places {
		users[i] = p.userID
	}
	seqs, versions, times := pendingArrays(pending)
	out, err := postgres.Collect(ctx, s.db, func(r postgres.Row, m *event.Marker) error {
		var readAt *time.Time
		err := r.Scan(&m.UserID, &m.LastReadSeq, &readAt)
		m.ReadAt = timeOrNil(readAt)
		return err
	}, markersSQL, conversationID, viewerID, users, seqs, versions, times)
	if err != nil {
		return nil, fmt.Errorf("read markers: %w", err)
	}
	return out, nil
}

// moved reads moved markers and returns events. Markers of one conversation share an event if the same members may not see them. The
// reader of an event's only marker is excepted too, because that user's sockets already have it.
func (s *store) moved(ctx context.Context, maxMembers int, places []markerPlace, pending []chat.PendingMarker) ([]*event.Event, error) {
	conversations, users := make([]string, len(places)), make([]string, len(places))
	for i, p := range places {
		conversations[i], users[i] = p.conversationID, p.userID
	}
	seqs, versions, times := pendingArrays(pending)
	type audience struct{ conversationID, except string }
	var order []audience
	markers := map[audience][]event.Marker{}
	err := postgres.Each(ctx, s.db, func(r postgres.Row) error {
		var a audience
		var m event.Marker
		var readAt *time.Time
		if err := r.Scan(&a.conversationID, &m.UserID, &m.LastReadSeq, &readAt, &a.except); err != nil {
			return err
		}
		m.ReadAt = timeOrNil(readAt)
		if markers[a] == nil {
			order = append(order, a)
		}
		markers[a] = append(markers[a], m)
		return nil
	}, movedSQL, maxMembers, conversations, users, seqs, versions, times)
	if err != nil {
		return nil, fmt.Errorf("read moved markers: %w", err)
	}
	out := make([]*event.Event, len(order))
	for i, a := range order {
		var except []string
		if a.except != "" {
			except = strings.Split(a.except, ",")
		}
		if own := markers[a]; len(own) == 1 {
			except = append(except, own[0].UserID)
			slices.Sort(except)
		}
		out[i] = event.MarkersMoved(event.Markers{ConversationID: a.conversationID, Markers: markers[a]}, except)
	}
	return out, nil
}

func timeOrNil(t *time.Time) *timestamp.Time {
	if t == nil {
		return nil
	}
	v := at(*t)
	return &v
}
