package receipt

import (
	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/parley-chat/parley/internal/event"
)

// knownSize is how many messages, and how many users, a pod keeps in mind for when Postgres is away.
const knownSize = 1 << 14

// known is what a pod has heard of messages and users. It is asked while Postgres is away, and never else.
type known struct {
	messages *lru.Cache[string, facts]
	hides    *lru.Cache[string, bool] // by user, whether they show no receipts
	members  Members
}

func newKnown() *known {
	messages, _ := lru.New[string, facts](knownSize) // it errs for sizes that are not positive
	hides, _ := lru.New[string, bool](knownSize)
	return &known{messages: messages, hides: hides}
}

// sent notes a message that was sent.
func (k *known) sent(conversationID string, m event.Sent) {
	k.messages.Add(m.ID, facts{conversationID: conversationID, senderID: m.SenderID, seq: m.Seq})
}

// note keeps what Postgres answered.
func (k *known) note(r *read) {
	if r.conversationID == "" {
		return
	}
	k.messages.Add(r.messageID, facts{conversationID: r.conversationID, senderID: r.senderID, seq: r.seq, deleted: r.deleted})
	k.hides.Add(r.userID, !r.shows)
}

// recall fills in what is known of a read. It returns false where that is not enough: the message was not heard of, or no
// socket of this pod says that the reader is a member. Of whom nothing is known is taken to show receipts, as most do.
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
