package journal

// Kind is the kind of a change of a conversation. A new message has no Kind, because its own row is sufficient.
type Kind string

// The kinds of changes.
const (
	// Created is the first revision of a conversation; UserIDs are its first members.
	Created Kind = "created"
	// Updated is a change of a conversation's properties: its name, description, settings.
	Updated Kind = "updated"
	// Deleted is the last revision of a conversation.
	Deleted Kind = "deleted"
	// MemberAdded, MemberRemoved and MemberUpdated (another role) are changes of the members UserIDs.
	MemberAdded   Kind = "member_added"
	MemberRemoved Kind = "member_removed"
	MemberUpdated Kind = "member_updated"
	// MessageUpdated is an edit of a message's content or mentions, MessageAnnotated a change of its metadata or pin, MessageDeleted
	// its deletion, and MessageReacted a change of the reactions of UserIDs to it.
	MessageUpdated   Kind = "message_updated"
	MessageAnnotated Kind = "message_annotated"
	MessageDeleted   Kind = "message_deleted"
	MessageReacted   Kind = "message_reacted"
)

// Kinds are all kinds that this version knows.
var Kinds = []Kind{Created, Updated, Deleted, MemberAdded, MemberRemoved, MemberUpdated, MessageUpdated, MessageAnnotated, MessageDeleted, MessageReacted}

// unknown stands for all kinds of newer versions.
const unknown Kind = ""

// older maps each kind that is newer than the first version to the kind with which it is stored for pods of that version. Such a pod would replay
// unknown kinds as added members, and can't replay message_updated for a message that was never edited.
var older = map[Kind]Kind{MemberUpdated: Updated, Deleted: Updated, MessageAnnotated: Updated, MessageReacted: Updated}

var kinds = func() map[Kind]bool {
	m := make(map[Kind]bool, len(Kinds))
	for _, k := range Kinds {
		m[k] = true
	}
	return m
}()

// columns returns a kind as a row has it: kind is known to every version, and detail is the exact kind, nil if it is the same.
func (k Kind) columns() (kind Kind, detail *Kind) {
	if o := older[k]; o != "" {
		return o, &k
	}
	return k, nil
}

// kindOf returns the kind of a row, unknown if this version doesn't know it.
func kindOf(kind Kind, detail *Kind) Kind {
	if detail != nil {
		kind = *detail
	}
	if !kinds[kind] {
		return unknown
	}
	return kind
}
