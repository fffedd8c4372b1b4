package receipt

import (
	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/parley-chat/parley/internal/event"
)

// knownSize is how many messages, and how many users, a pod keeps in mind for when Postgres is away.
const knownSize = 1 << 14

// Memory is what a pod has heard of messages and users. It is asked while Postgres is unavailable, and never else. It is safe for
// concurrent use.
type Memory struct {
	messages *lru.Cache[string, facts]
	hides    *lru.Cache[string, bool] // by user, whether they show no receipts
}

// NewMemory makes an empty memory.
func NewMemory() *Memory {
	messages, _ := lru.New[string, facts](knownSize) // it errs for sizes that are not positive
	hides, _ := lru.New[string, bool](knownSize)
	return &Memory{messages: messages, hides: hides}
}

// Sent notes a message that this pod heard of.
func (k *Memory) Sent(conversationID string, m event.Sent) {
	k.messages.Add(m.ID, facts{conversationID: conversationID, senderID: m.SenderID, seq: m.Seq})
}

// known is a pod's memory, with who knows what sockets the pod has.
type known struct {
	*Memory
	members Members // nil for no sockets
}

// note keeps what Postgres returned.
func (k *Memory) note(r *read) {
	if r.conversationID == "" {
		return
	}
	k.messages.Add(r.messageID, facts{conversationID: r.conversationID, senderID: r.senderID, seq: r.seq, deleted: r.deleted})
	k.hides.Add(r.userID, !r.shows)
}

// recall fills in what is known of a read. It returns false if that is not enough: the message was not heard of, or no socket of
// this pod shows that the reader is a member. Unknown users are assumed to share receipts.
func (k *known) recall(r *read) bool {
	f, ok := k.messages.Get(r.messageID)
	if !ok || k.members == nil || !k.members.Serves(r.userID, f.conversationID) {
		return false
	}
	hides, _ := k.hides.Get(r.userID)
	f.shows = !hides
	r.facts = f
	return true
}

// forget forgets everything.
func (k *known) forget() {
	k.messages.Purge()
	k.hides.Purge()
}
