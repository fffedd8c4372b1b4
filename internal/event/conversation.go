package event

import "github.com/parley-chat/parley/internal/chat"

// The events of a conversation's changes, one constructor each. at is the commit's time in microseconds since 1970.

// MessageNew reports a message that was sent.
func MessageNew(m *chat.Message) *Event {
	return ofMessage(TypeMessageNew, m, m.CreatedAt.UnixMicro())
}

// MessageUpdated reports an edit of a message, or of its metadata, mentions or pin.
func MessageUpdated(m *chat.Message, at int64) *Event { return ofMessage(TypeMessageUpdated, m, at) }

// MessageDeleted reports a deletion.
func MessageDeleted(m *chat.Message, at int64) *Event { return ofMessage(TypeMessageDeleted, m, at) }

func ofMessage(typ string, m *chat.Message, at int64) *Event {
	return &Event{Type: typ, Data: m, ConversationID: m.ConversationID, Revision: m.Revision, CommittedAt: at}
}

// ConversationCreated reports a new conversation to its members.
func ConversationCreated(c *chat.Conversation, members []string, at int64) *Event {
	e := ofConversation(TypeConversationCreated, c, c, at)
	e.Added, e.Welcome = members, c
	return e
}

// ConversationUpdated reports a new name, or another of the conversation's own members.
func ConversationUpdated(c *chat.Conversation, at int64) *Event {
	return ofConversation(TypeConversationUpdated, c, c, at)
}

// ConversationEnded is the data of a conversation:deleted.
type ConversationEnded struct {
	ConversationID string `json:"conversationId"`
	Revision       int64  `json:"revision"`
}

// ConversationDeleted reports to all members that their conversation is gone.
func ConversationDeleted(conversationID string, revision, at int64) *Event {
	return &Event{
		Type: TypeConversationDeleted, Data: ConversationEnded{conversationID, revision}, ConversationID: conversationID,
		Revision: revision, CommittedAt: at, Routing: Routing{Ends: true},
	}
}

// ConversationMoved is the data of a conversation:changed.
type ConversationMoved struct {
	ConversationID string `json:"conversationId"`
	Revision       int64  `json:"revision"`
}

// ConversationChanged reports a change that this version can't describe, made by a newer one: its clients ask sync.
func ConversationChanged(conversationID string, revision, at int64) *Event {
	return &Event{
		Type: TypeConversationChanged, Data: ConversationMoved{conversationID, revision}, ConversationID: conversationID,
		Revision: revision, CommittedAt: at,
	}
}

func ofConversation(typ string, c *chat.Conversation, data any, at int64) *Event {
	return &Event{Type: typ, Data: data, ConversationID: c.ID, Revision: c.Revision, CommittedAt: at}
}

// MembersAdded is the data of a conversation:member_added.
type MembersAdded struct {
	ConversationID string `json:"conversationId"`
	// Members are the first 20 added members.
	Members     []chat.Member `json:"members"`
	MemberCount int           `json:"memberCount"`
	Revision    int64         `json:"revision"`
	// UserIDs are all added users, if there are several.
	UserIDs []string `json:"userIds,omitempty"`
}

// maxShown is how many new members an event shows; of the others it has the ids.
const maxShown = 20

// MemberAdded reports new members to the others, and the conversation to the new members.
func MemberAdded(c *chat.Conversation, added []chat.Member, at int64) *Event {
	data := MembersAdded{ConversationID: c.ID, Members: added, MemberCount: c.MemberCount, Revision: c.Revision}
	if len(added) > 1 {
		data.Members, data.UserIDs = added[:min(len(added), maxShown)], IDsOf(added)
	}
	e := ofConversation(TypeMemberAdded, c, data, at)
	e.Added, e.Welcome = IDsOf(added), c
	return e
}

// MemberRemoved is the data of a conversation:member_removed.
type MemberRemoved struct {
	ConversationID string `json:"conversationId"`
	UserID         string `json:"userId"`
	MemberCount    int    `json:"memberCount"`
	Revision       int64  `json:"revision"`
	// UserIDs are all removed users, if there are several; UserID is then the first.
	UserIDs []string `json:"userIds,omitempty"`
}

// MemberWasRemoved reports a removal to the members, the removed one among them.
func MemberWasRemoved(conversationID, userID string, memberCount int, revision, at int64) *Event {
	return MembersWereRemoved(conversationID, []string{userID}, memberCount, revision, at)
}

// MembersWereRemoved is MemberWasRemoved for at least one member.
func MembersWereRemoved(conversationID string, userIDs []string, memberCount int, revision, at int64) *Event {
	data := MemberRemoved{ConversationID: conversationID, UserID: userIDs[0], MemberCount: memberCount, Revision: revision}
	if len(userIDs) > 1 {
		data.UserIDs = userIDs
	}
	return &Event{
		Type: TypeMemberRemoved, Data: data, ConversationID: conversationID, Revision: revision, CommittedAt: at, Routing: Routing{Removed: userIDs},
	}
}

// MembersUpdated is the data of a conversation:member_updated.
type MembersUpdated struct {
	ConversationID string        `json:"conversationId"`
	Members        []chat.Member `json:"members"`
	Revision       int64         `json:"revision"`
}

// MemberUpdated reports members with another role than before.
func MemberUpdated(conversationID string, members []chat.Member, revision, at int64) *Event {
	return &Event{
		Type: TypeMemberUpdated, Data: MembersUpdated{conversationID, members, revision}, ConversationID: conversationID,
		Revision: revision, CommittedAt: at,
	}
}

// IDsOf are the ids of members.
func IDsOf(members []chat.Member) []string {
	ids := make([]string, len(members))
	for i, m := range members {
		ids[i] = m.User.ID
	}
	return ids
}

// Typing is the data of a typing frame.
type Typing struct {
	ConversationID string `json:"conversationId"`
	UserID         string `json:"userId"`
	Active         bool   `json:"active"`
}

// UserTyping reports to the others that a user types, or has stopped.
func UserTyping(t Typing) *Event {
	return &Event{Type: TypeTyping, Data: t, ConversationID: t.ConversationID, Routing: Routing{Except: t.UserID}}
}

// Sent are the properties of a new message that pods remember for the time that Postgres is unavailable.
type Sent struct {
	ID       string `json:"id"`
	Seq      int64  `json:"seq"`
	SenderID string `json:"by"`
}

// MessageReactions is the data of a message:reacted: the state after the change, so that it may be repeated.
type MessageReactions struct {
	ConversationID string `json:"conversationId"`
	MessageID      string `json:"messageId"`
	Revision       int64  `json:"revision"`
	// Reactions are all of the message's, in the order of their first use.
	Reactions []chat.Reaction `json:"reactions"`
	// By has each user who changed something, with all reactions of that user.
	By []ReactedBy `json:"by"`
}

// ReactedBy is a user with all of that user's reactions to a message.
type ReactedBy struct {
	UserID    string   `json:"userId"`
	Reactions []string `json:"reactions"`
}

// MessageReacted reports changed reactions to a message.
func MessageReacted(d *MessageReactions, at int64) *Event {
	return &Event{Type: TypeMessageReacted, Data: d, ConversationID: d.ConversationID, Revision: d.Revision, CommittedAt: at}
}
