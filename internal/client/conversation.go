package client

import (
	"encoding/json"
	"slices"
)

// Conversation keeps one conversation in step with the server: frames and responses go in, and the state is always that of one revision.
// The rules are those of clients/typescript/src/machine.ts; clients/scenarios.json tests both. It does no input or output and is
// not safe for concurrent use.
type Conversation struct {
	// Me is the viewer's id.
	Me string
	// Held is the revision up to which nothing is missing.
	Held int64
	// Info is the conversation as the viewer sees it.
	Info Info
	// Messages are those from First to Last by seq, without a gap. First is Last+1 if there is none.
	Messages    []HeldMessage
	First, Last int64
	// Gone says why the viewer sees the conversation no more: "removed" or "deleted".
	Gone string

	partial       bool          // a sync brought a first part: no change may be applied on top of it
	waiting       []change      // after a gap, by revision
	stash         []HeldMessage // after a hole, by seq
	loading       bool
	aside         []change // changes of messages before First, while a page is on its way
	stateRevision int64
}

// Info are the properties of the conversation itself.
type Info struct {
	ID          string       `json:"id"`
	Name        string       `json:"name"`
	Members     []HeldMember `json:"members"`
	MemberCount int          `json:"memberCount"`
	Revision    int64        `json:"revision"`
	LastSeq     int64        `json:"lastSeq"`
	LastMessage *HeldMessage `json:"lastMessage"`
	LastReadSeq int64        `json:"lastReadSeq"`
}

// HeldMember is a member of a conversation.
type HeldMember struct {
	User struct {
		ID string `json:"id"`
	} `json:"user"`
	Role string `json:"role"`
}

// HeldMessage is a message of a conversation. Mine are the viewer's own reactions, which frames for everybody lack.
type HeldMessage struct {
	ID        string     `json:"id"`
	Seq       int64      `json:"seq"`
	Revision  int64      `json:"revision"`
	SenderID  string     `json:"senderId"`
	Content   string     `json:"content"`
	DeletedAt *string    `json:"deletedAt"`
	Reactions []Reaction `json:"reactions"`
	Mine      []string   `json:"mine"`
}

// Reaction is how often a message has one reaction.
type Reaction struct {
	Reaction string `json:"reaction"`
	Count    int    `json:"count"`
}

// SyncPart is the part of a sync response for one conversation.
type SyncPart struct {
	Messages     []HeldMessage `json:"messages"`
	Conversation *Info         `json:"conversation"`
	Revision     int64         `json:"revision"`
	Complete     bool          `json:"complete"`
	Reset        bool          `json:"reset"`
}

// Effect is a consequence of an input: a change to show, or an action for the caller.
type Effect struct {
	// Kind is repair (sync the conversation to fill a gap), reload (read the conversation again), message (a new one), changed or gone.
	Kind string
	// Seq is the message's.
	Seq int64
}

// NewConversation begins with a conversation as REST or a frame brings it. Nothing of its history is held.
func NewConversation(me string, info Info) *Conversation {
	return &Conversation{Me: me, Held: info.Revision, Info: info, First: info.LastSeq + 1, Last: info.LastSeq}
}

// Unread is how many messages the viewer has not read.
func (c *Conversation) Unread() int64 { return max(0, c.Info.LastSeq-c.Info.LastReadSeq) }

// Waiting returns the revisions of the changes that wait for a gap to be filled.
func (c *Conversation) Waiting() []int64 {
	out := make([]int64, len(c.waiting))
	for i, w := range c.waiting {
		out[i] = w.revision
	}
	return out
}

// change is one revision's, as a frame brings it.
type change struct {
	revision int64
	typ      string
	message  HeldMessage
	own      bool // from a response to the viewer, which has Mine
	data     frameData
}

type frameData struct {
	Revision      int64          `json:"revision"`
	MessageID     string         `json:"messageId"`
	Reactions     []Reaction     `json:"reactions"`
	By            []userReaction `json:"by"`
	Members       []HeldMember   `json:"members"`
	MemberCount   *int           `json:"memberCount"`
	UserID        string         `json:"userId"`
	UserIDs       []string       `json:"userIds"`
	LastReadSeq   int64          `json:"lastReadSeq"`
	StateRevision int64          `json:"stateRevision"`
	Info          Info           `json:"-"`
}

type userReaction struct {
	UserID    string   `json:"userId"`
	Reactions []string `json:"reactions"`
}

// Frame applies a frame of this conversation. Unknown types are nothing.
func (c *Conversation) Frame(typ string, data json.RawMessage) ([]Effect, error) {
	ch := change{typ: typ}
	if err := json.Unmarshal(data, &ch.data); err != nil {
		return nil, err
	}
	ch.revision = ch.data.Revision
	switch typ {
	case "message:new", "message:updated", "message:deleted":
		ch.typ = "message"
		if err := json.Unmarshal(data, &ch.message); err != nil {
			return nil, err
		}
	case "conversation:created", "conversation:updated":
		ch.typ = "conversation"
		if err := json.Unmarshal(data, &ch.data.Info); err != nil {
			return nil, err
		}
	case "message:reacted", "conversation:member_added", "conversation:member_updated", "conversation:member_removed", "conversation:deleted",
		"conversation:changed":
	case "conversation:read":
		c.Info.LastReadSeq = max(c.Info.LastReadSeq, ch.data.LastReadSeq)
		return nil, nil
	case "state:updated":
		if ch.data.StateRevision >= c.stateRevision {
			c.stateRevision, c.Info.LastReadSeq = ch.data.StateRevision, ch.data.LastReadSeq
		}
		return nil, nil
	default:
		return nil, nil
	}
	if c.Gone != "" || ch.revision <= c.Held {
		return nil, nil
	}
	i, found := slices.BinarySearchFunc(c.waiting, ch.revision, func(w change, r int64) int { return int(w.revision - r) })
	if found {
		c.waiting[i] = ch
	} else {
		c.waiting = slices.Insert(c.waiting, i, ch)
	}
	return c.drain(nil), nil
}

// drain applies waiting changes as long as they follow without a gap.
func (c *Conversation) drain(effects []Effect) []Effect {
	for len(c.waiting) > 0 && c.Gone == "" {
		next := c.waiting[0]
		if next.revision <= c.Held {
			c.waiting = c.waiting[1:]
			continue
		}
		if c.partial || next.revision > c.Held+1 || next.typ == "conversation:changed" {
			return append(effects, Effect{Kind: "repair"})
		}
		c.waiting, c.Held = c.waiting[1:], next.revision
		effects = c.apply(next, effects)
	}
	return effects
}

func (c *Conversation) apply(ch change, effects []Effect) []Effect {
	known := ch.revision <= c.Info.Revision // a response was newer
	switch ch.typ {
	case "message":
		effects = c.place(ch, effects)
	case "message:reacted":
		effects = c.react(ch, effects)
	case "conversation":
		if !known {
			c.share(ch.data.Info)
		}
	case "conversation:member_added", "conversation:member_updated":
		if !known {
			c.setMembers(ch)
		}
	case "conversation:member_removed":
		ids := append(slices.Clone(ch.data.UserIDs), ch.data.UserID)
		if slices.Contains(ids, c.Me) {
			return c.leave("removed", effects)
		}
		if !known {
			c.Info.Members = slices.DeleteFunc(slices.Clone(c.Info.Members), func(m HeldMember) bool { return slices.Contains(ids, m.User.ID) })
			c.countMembers(ch)
		}
	case "conversation:deleted":
		return c.leave("deleted", effects)
	}
	c.Info.Revision = max(c.Info.Revision, ch.revision)
	return effects
}

func (c *Conversation) setMembers(ch change) {
	c.Info.Members = slices.Clone(c.Info.Members)
	for _, m := range ch.data.Members {
		i := slices.IndexFunc(c.Info.Members, func(x HeldMember) bool { return x.User.ID == m.User.ID })
		if i >= 0 {
			c.Info.Members[i] = m
		} else if ch.typ == "conversation:member_added" {
			c.Info.Members = append(c.Info.Members, m)
		}
	}
	c.countMembers(ch)
}

func (c *Conversation) countMembers(ch change) {
	if ch.data.MemberCount != nil {
		c.Info.MemberCount = *ch.data.MemberCount
	}
}

func (c *Conversation) leave(why string, effects []Effect) []Effect {
	c.Gone, c.waiting, c.stash, c.aside, c.loading = why, nil, nil, nil, false
	return append(effects, Effect{Kind: "gone " + why})
}

// place inserts a message at its position.
func (c *Conversation) place(ch change, effects []Effect) []Effect {
	m := ch.message
	switch {
	case m.Seq < c.First:
		if c.loading {
			c.aside = append(c.aside, ch)
		}
		c.setLast(m)
	case m.Seq <= c.Last:
		held := &c.Messages[m.Seq-c.First]
		if m.Revision < held.Revision {
			return effects
		}
		*held = after(*held, ch, c.Me)
		c.setLast(*held)
		effects = append(effects, Effect{Kind: "changed", Seq: m.Seq})
	default:
		i, found := slices.BinarySearchFunc(c.stash, m.Seq, func(x HeldMessage, seq int64) int { return int(x.Seq - seq) })
		if found {
			c.stash[i] = m
		} else {
			c.stash = slices.Insert(c.stash, i, m)
		}
		for len(c.stash) > 0 && c.stash[0].Seq == c.Last+1 {
			effects = c.append(c.stash[0], effects)
			c.stash = c.stash[1:]
		}
	}
	return effects
}

func (c *Conversation) append(m HeldMessage, effects []Effect) []Effect {
	c.Messages, c.Last = append(c.Messages, m), m.Seq
	c.Info.LastSeq = max(c.Info.LastSeq, m.Seq)
	if m.SenderID == c.Me {
		c.Info.LastReadSeq = max(c.Info.LastReadSeq, m.Seq)
	}
	c.setLast(m)
	return append(effects, Effect{Kind: "message", Seq: m.Seq})
}

func (c *Conversation) setLast(m HeldMessage) {
	now := c.Info.LastMessage
	if m.Seq >= c.Info.LastSeq && (now == nil || m.Seq > now.Seq || m.Revision >= now.Revision) {
		c.Info.LastMessage = &m
	}
}

func (c *Conversation) react(ch change, effects []Effect) []Effect {
	is := func(m HeldMessage) bool { return m.ID == ch.data.MessageID }
	if i := slices.IndexFunc(c.Messages, is); i >= 0 {
		c.Messages[i] = after(c.Messages[i], ch, c.Me)
		return append(effects, Effect{Kind: "changed", Seq: c.Messages[i].Seq})
	}
	if i := slices.IndexFunc(c.stash, is); i >= 0 {
		c.stash[i] = after(c.stash[i], ch, c.Me)
	} else if c.loading {
		c.aside = append(c.aside, ch)
	}
	return effects
}

// after returns a message after a change. A message never goes back behind its own revision.
func after(m HeldMessage, ch change, me string) HeldMessage {
	if ch.typ == "message:reacted" {
		if ch.data.MessageID != m.ID || ch.revision < m.Revision || m.DeletedAt != nil {
			return m
		}
		m.Reactions, m.Revision = ch.data.Reactions, ch.revision
		for _, by := range ch.data.By {
			if by.UserID == me {
				m.Mine = by.Reactions
			}
		}
		return m
	}
	if ch.message.ID != m.ID || ch.message.Revision < m.Revision {
		return m
	}
	next := ch.message
	if !ch.own {
		for _, r := range m.Mine {
			if slices.ContainsFunc(next.Reactions, func(x Reaction) bool { return x.Reaction == r }) {
				next.Mine = append(next.Mine, r)
			}
		}
	}
	return next
}

// share takes over the members that all viewers see. The viewer's own state stays.
func (c *Conversation) share(in Info) {
	old := c.Info
	c.Info = in
	c.Info.LastReadSeq, c.Info.Revision = old.LastReadSeq, max(in.Revision, old.Revision)
	if in.LastSeq < old.LastSeq {
		c.Info.LastSeq, c.Info.LastMessage = old.LastSeq, old.LastMessage
	}
}

// Answer takes over the conversation from a REST response to the viewer. It may be older or newer than Held.
func (c *Conversation) Answer(in Info) []Effect {
	c.answer(in)
	if in.Revision > c.Held {
		return []Effect{{Kind: "repair"}}
	}
	return nil
}

func (c *Conversation) answer(in Info) {
	if in.Revision >= max(c.Held, c.Info.Revision) {
		c.share(in)
	}
	c.Info.LastReadSeq = max(c.Info.LastReadSeq, in.LastReadSeq)
}

// Sync applies the response to a sync that was sent with the revision asked. Until a part is complete the caller syncs again, with Held.
func (c *Conversation) Sync(asked int64, part SyncPart) []Effect {
	if part.Reset || part.Revision < asked { // or a server without epochs was restored: the response starts from nothing
		return c.reset(part)
	}
	if c.Gone != "" || part.Revision < c.Held {
		return nil
	}
	var effects []Effect
	for _, m := range part.Messages {
		effects = c.place(change{typ: "message", revision: m.Revision, message: m, own: true}, effects)
	}
	c.Held, c.partial = part.Revision, !part.Complete
	if part.Conversation != nil {
		c.answer(*part.Conversation)
	}
	if c.partial {
		return effects
	}
	if len(c.stash) > 0 {
		return append(effects, Effect{Kind: "reload"})
	}
	return c.drain(effects)
}

func (c *Conversation) reset(part SyncPart) []Effect {
	c.Messages = suffix(part.Messages)
	if part.Conversation != nil {
		c.Info = *part.Conversation
	}
	c.Last = c.Info.LastSeq
	if n := len(c.Messages); n > 0 {
		c.Last = c.Messages[n-1].Seq
	}
	c.First, c.Held, c.partial = c.Last+1-int64(len(c.Messages)), part.Revision, !part.Complete
	c.Info.Revision, c.Info.LastSeq = part.Revision, max(c.Last, c.Info.LastSeq)
	// Waiting changes may belong to a previous history. If they belong to this one, sync returns them again.
	lost := len(c.waiting) > 0 && c.waiting[len(c.waiting)-1].revision > part.Revision
	c.waiting, c.stash, c.aside, c.loading, c.stateRevision = nil, nil, nil, false, 0
	if lost {
		return []Effect{{Kind: "repair"}}
	}
	return nil
}

// Load reports that the page before First was requested.
func (c *Conversation) Load() { c.loading, c.aside = true, nil }

// Page applies the page before First. A page that was requested before a reset is ignored.
func (c *Conversation) Page(page []HeldMessage) []Effect {
	if !c.loading || c.Gone != "" {
		return nil
	}
	c.loading = false
	older := suffix(page)
	if c.First > 1 && (len(older) == 0 || older[len(older)-1].Seq != c.First-1) {
		return []Effect{{Kind: "reload"}}
	}
	for i := range older {
		for _, ch := range c.aside {
			older[i] = after(older[i], ch, c.Me)
		}
	}
	c.Messages, c.First, c.aside = append(older, c.Messages...), c.First-int64(len(older)), nil
	return nil
}

// suffix returns the longest run without a gap at the end, by seq.
func suffix(messages []HeldMessage) []HeldMessage {
	out := slices.SortedFunc(slices.Values(messages), func(a, b HeldMessage) int { return int(a.Seq - b.Seq) })
	i := max(0, len(out)-1)
	for i > 0 && out[i-1].Seq == out[i].Seq-1 {
		i--
	}
	return out[i:]
}
