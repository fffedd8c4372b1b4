package event

// The envelopes of a conversation's changes, one function each. at is the commit's time in microseconds since 1970.

// MessageNew tells of a message that was sent.
func MessageNew(m *Message) *Envelope {
	e := ofMessage(TypeMessageNew, m, m.CreatedAt.UnixMicro())
	e.Sent = &Sent{ID: m.ID, Seq: m.Seq, SenderID: m.SenderID}
	return e
}

// MessageUpdated tells of an edit.
func MessageUpdated(m *Message) *Envelope {
	return ofMessage(TypeMessageUpdated, m, m.EditedAt.UnixMicro())
}

// MessageDeleted tells of a deletion.
func MessageDeleted(m *Message) *Envelope {
	return ofMessage(TypeMessageDeleted, m, m.DeletedAt.UnixMicro())
}

func ofMessage(typ string, m *Message, at int64) *Envelope {
	m.encoded = encode(typ, m)
	return &Envelope{ConversationID: m.ConversationID, Type: typ, Revision: m.Revision, CommittedAt: at, Frame: reply(typ, "", m.encoded)}
}

// ConversationCreated tells members of a conversation that is new.
func ConversationCreated(c *Conversation, members []string, at int64) *Envelope {
	return &Envelope{ConversationID: c.ID, Type: TypeConversationCreated, Revision: c.Revision, CommittedAt: at, Added: members, Welcome: NewFrame(TypeConversationCreated, c)}
}

// ConversationUpdated tells of a new name or a role.
func ConversationUpdated(c *Conversation, at int64) *Envelope {
	return &Envelope{ConversationID: c.ID, Type: TypeConversationUpdated, Revision: c.Revision, CommittedAt: at, Frame: NewFrame(TypeConversationUpdated, c)}
}

// MemberAdded tells the members of new ones, and the new ones of the conversation.
func MemberAdded(c *Conversation, added []Member, at int64) *Envelope {
	ids := make([]string, len(added))
	for i, m := range added {
		ids[i] = m.User.ID
	}
	return &Envelope{
		ConversationID: c.ID, Type: TypeMemberAdded, Revision: c.Revision, CommittedAt: at, Added: ids,
		Frame:   NewFrame(TypeMemberAdded, MembersAdded{c.ID, added, c.MemberCount, c.Revision}),
		Welcome: NewFrame(TypeConversationCreated, c),
	}
}

// MemberWasRemoved tells the members, the removed one among them, of who is gone.
func MemberWasRemoved(conversationID, userID string, memberCount int, revision, at int64) *Envelope {
	return &Envelope{
		ConversationID: conversationID, Type: TypeMemberRemoved, Revision: revision, CommittedAt: at, Removed: userID,
		Frame: NewFrame(TypeMemberRemoved, MemberRemoved{conversationID, userID, memberCount, revision}),
	}
}

// UserTyping tells the others that a user types or has stopped.
func UserTyping(t Typing) *Envelope {
	return &Envelope{ConversationID: t.ConversationID, Type: TypeTyping, Except: t.UserID, Typing: &t, Frame: NewFrame(TypeTyping, t)}
}
