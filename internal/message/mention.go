package message

import (
	"slices"

	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/invalid"
	"github.com/parley-chat/parley/internal/jsonbody"
)

// maxMentions is how many users a message mentions by id at most.
const maxMentions = 50

// MentionList has the members whom a message mentions. Clients send them: mentions are not parsed from the text.
type MentionList struct {
	// UserIDs are in ascending order, each once.
	UserIDs []string
	All     bool
}

// UnmarshalJSON decodes {"userIds"?, "all"?}. It returns *invalid.Faults if a rule is violated.
func (m *MentionList) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		*m = MentionList{}
		return nil
	}
	var in mentionBody
	if err := jsonbody.Decode(b, &in); err != nil {
		return err
	}
	*m = MentionList(in)
	return nil
}

type mentionBody struct {
	UserIDs []string `json:"userIds,omitempty"`
	All     bool     `json:"all,omitempty"`
}

// Check sorts the ids, removes duplicates and notes faults.
func (m *mentionBody) Check(f *invalid.Faults) {
	if len(m.UserIDs) > maxMentions {
		f.Add("userIds", "must name at most %d users", maxMentions)
		return
	}
	for _, v := range m.UserIDs {
		if !id.Valid(v) {
			f.Add("userIds", "must hold only ids of users")
			return
		}
	}
	slices.Sort(m.UserIDs)
	m.UserIDs = slices.Compact(m.UserIDs)
}

func (m *MentionList) empty() bool { return m == nil || len(m.UserIDs) == 0 && !m.All }

// shown returns the mentions as clients see them, nil for none.
func (m *MentionList) shown() *chat.Mentions {
	if m.empty() {
		return nil
	}
	ids := m.UserIDs
	if ids == nil {
		ids = []string{}
	}
	return &chat.Mentions{UserIDs: ids, All: m.All}
}
