package receipt

import (
	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/parley-chat/parley/internal/event"
)

// knownSize is how many messages, and how many users, a pod remembers.
const knownSize = 1 << 14

// Memory remembers facts about recent messages and users, so that reads can be accepted while Postgres is unavailable. Safe for concurrent use.
type Memory struct {
	messages *lru.Cache[string, facts]
	hides    *lru.Cache[string, bool] // by user, whether the user hides receipts
}

// NewMemory makes an empty memory.
func NewMemory() *Memory {
	messages, _ := lru.New[string, facts](knownSize) // it only fails for sizes that are not positive
	hides, _ := lru.New[string, bool](knownSize)
	return &Memory{messages: messages, hides: hides}
}

// Sent remembers a message that this pod has delivered.
func (k *Memory) Sent(conversationID string, m event.Sent) {
	k.messages.Add(m.ID, facts{conversationID: conversationID, senderID: m.SenderID, seq: m.Seq})
}

// known is a pod's memory together with the sockets of the pod.
type known struct {
	*Memory
	members Members // nil for no sockets
}

// noteFacts remembers the facts that Postgres returned.
func (k *Memory) noteFacts(r *request, f *facts) {
	if f.conversationID == "" {
		return
	}
	k.messages.Add(r.messageID, facts{conversationID: f.conversationID, senderID: f.senderID, seq: f.seq, deleted: f.deleted})
	k.hides.Add(r.userID, !f.shows)
}

// recall returns the facts of a read from memory. It returns false if they are not sufficient: the message is unknown, or no
// socket of this pod proves that the reader is a member. Unknown users are assumed to share receipts.
func (k *known) recall(r *request) (facts, bool) {
	f, ok := k.messages.Get(r.messageID)
	if !ok || k.members == nil || !k.members.Serves(r.userID, f.conversationID) {
		return facts{}, false
	}
	hides, _ := k.hides.Get(r.userID)
	f.shows = !hides
	return f, true
}

// forget clears the memory.
func (k *known) forget() {
	k.messages.Purge()
	k.hides.Purge()
}
