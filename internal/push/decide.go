package push

import (
	"slices"
	"time"
)

// Outcomes of decisions, for metrics. Each decision is about one member of a conversation and all messages that are due.
const (
	outcomeSent    = "sent"    // a push was requested
	outcomeOwn     = "own"     // the member sent all of the messages
	outcomeRead    = "read"    // the member has read them, possibly as a pending read
	outcomeActive  = "active"  // the member is active on some device
	outcomeBlocked = "blocked" // a block separates the member and the sender
	outcomeMuted   = "muted"   // the conversation is muted, and the member is not mentioned by id
	outcomeLevel   = "level"   // unwanted, by the conversation's notifications or the user's level
	outcomeBarred  = "barred"  // the member is banned, deactivated or deleted
	outcomeEarlier = "earlier" // the messages are older than the member's devices
)

var outcomes = []string{
	outcomeSent, outcomeOwn, outcomeRead, outcomeActive, outcomeBlocked, outcomeMuted, outcomeLevel, outcomeBarred, outcomeEarlier,
}

// manyMembers is the size of a conversation above which only mentions are pushed, unless the member has set its notifications to all.
const manyMembers = 100

// due is a message whose delay is over, so that pushes of it are decided.
type due struct {
	id, senderID string
	seq          int64
	mentioned    []string
	mentionsAll  bool
	createdAt    time.Time
}

// member is a member of a conversation, with the facts that a decision depends on.
type member struct {
	userID string
	// readSeq is the member's read marker including pending reads, lastReadSeq the one in Postgres, and lastPush the seq of the last push.
	readSeq int64
	// notifications is the conversation's setting, "" for the default; level is the user's own.
	notifications, level  string
	muted, barred, active bool
	devicesSince          time.Time // when the first device, or the first webhook for pushes, was registered
	blocked               map[string]bool
	markerVersion         int
	lastReadSeq, lastPush int64
}

// decide returns the newest message to push to a member, nil for none, and the outcome. members is the size of the conversation; messages
// are in the order of their seqs. If there are several reasons against pushes, the outcome is that of the last message, but own only if
// there is no other.
func (m *member) decide(members int, messages []due) (newest *due, outcome string) {
	if m.barred {
		return nil, outcomeBarred
	}
	outcome = outcomeOwn
	for i := range messages {
		why := m.reasonAgainst(members, &messages[i])
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

// reasonAgainst returns the outcome if the message must not be pushed to the member, "" if it may be.
func (m *member) reasonAgainst(members int, d *due) string {
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

// wants reports whether a member wants pushes of a message. mentioned is set if the message mentions the member.
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
