package webhook

import "github.com/parley-chat/parley/internal/event"

// shownMembers is how many members an event has at most; userIds has all. So a body stays below 256 KiB.
const shownMembers = 20

// dataOf is a frame's data as webhooks have it. Events of members always have userIds: all whom the change was about, also those who have
// left since. members has those who are members when the event is sent.
func dataOf(e *event.Event) any {
	switch d := e.Data.(type) {
	case event.MembersAdded:
		d.Members = d.Members[:min(len(d.Members), shownMembers)]
		return struct {
			event.MembersAdded
			UserIDs []string `json:"userIds"`
		}{d, e.Concerned}
	case event.MemberRemoved:
		return struct {
			event.MemberRemoved
			UserIDs []string `json:"userIds"`
		}{d, e.Concerned}
	case event.MembersUpdated:
		d.Members = d.Members[:min(len(d.Members), shownMembers)]
		return struct {
			event.MembersUpdated
			UserIDs []string `json:"userIds"`
		}{d, e.Concerned}
	}
	return e.Data
}
