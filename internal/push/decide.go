package push

import (
	"slices"
	"time"
)

// Outcomes of decisions, for metrics. Each is about one member of a conversation and the messages that are due.
const (
	outcomeSent    = "sent"    // a push is on its way
	outcomeOwn     = "own"     // all of them are the member's own
	outcomeRead    = "read"    // read in between, also if Postgres does not have it yet
	outcomeActive  = "active"  // active on some device
	outcomeBlocked = "blocked" // across a block
	outcomeMuted   = "muted"   // muted, and not mentioned by name
	outcomeLevel   = "level"   // not wanted, by the conversation's notifications or the user's level
	outcomeBarred  = "barred"  // banned, deactivated or deleted
	outcomeEarlier = "earlier" // sent before the member's devices were registered
)

var outcomes = []string{
	outcomeSent, outcomeOwn, outcomeRead, outcomeActive, outcomeBlocked, outcomeMuted, outcomeLevel, outcomeBarred, outcomeEarlier,
}

// manyMembers is the size of a conversation above which only mentions are pushed, unless its member wants more.
const manyMembers = 100

// due is a message that is decided on.
type due struct {
	id, senderID string
	seq          int64
	mentioned    []string
	mentionsAll  bool
	createdAt    time.Time
}

// member is a member of a conversation as the decision sees them now.
type member struct {
	userID string
	// readSeq is how far they have read, pending reads included.
	readSeq int64
	// notifications is the conversation's setting, "" for the default; level is the user's own.
	notifications, level  string
	muted, barred, active bool
	devicesSince          time.Time // when their first device was registered
	blocked               map[string]bool
	markerVersion         int
	lastReadSeq, lastPush int64
}

// decide returns the newest message to push to a member, nil for none, and why. The messages are in the order of their seqs.
func (m *member) decide(members int, messages []due) (newest *due, outcome string) {
	if m.barred {
		return nil, outcomeBarred
	}
	outcome = outcomeOwn
	for i := range messages {
		why := m.against(members, &messages[i])
		switch {
		case why == "":
			newest = &messages[i]
		case why != outcomeOwn && newest == nil:
			outcome = why
		}
	}
	switch {
	case newest == nil:
		return nil, outcome
	case m.active:
		return nil, outcomeActive
	}
	return newest, outcomeSent
}

// against returns what speaks against a push of a message, "" if nothing does.
func (m *member) against(members int, d *due) string {
	named := slices.Contains(d.mentioned, m.userID)
	switch {
	case d.senderID == m.userID:
		return outcomeOwn
	case d.seq <= m.readSeq:
		return outcomeRead
	case d.createdAt.Before(m.devicesSince):
		return outcomeEarlier
	case m.blocked[d.senderID]:
		return outcomeBlocked
	case !m.wants(members, named || d.mentionsAll):
		return outcomeLevel
	case m.muted && !named:
		return outcomeMuted
	}
	return ""
}

// wants reports whether a member wants pushes of messages, or of those that mention them.
func (m *member) wants(members int, mentioned bool) bool {
	level := m.notifications
	switch {
	case m.level == LevelNone:
		return false
	case level != "":
	case members > manyMembers:
		level = LevelMentions
	default:
		level = m.level
	}
	return level == LevelAll || level == LevelMentions && mentioned
}
