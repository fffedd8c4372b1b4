package webhook

import "github.com/parley-chat/parley/internal/event"

const (
	// shownMembers is how many members an event has at most; userIds has all.
	shownMembers = 20
	// maxBody is how long a body may be. If it is longer fewer members are shown, and of those who reacted fewer of a crowd.
	maxBody = 256 << 10
	// crowdPerShown is how many users who reacted there are for each member that would be shown, once there are too many.
	crowdPerShown = 40
)

// dataOf is a frame's data as webhooks have it. Events of members always have userIds: all whom the change was about, also those who have
// left since. members has those who are members when the event is sent, shown of them at most.
func dataOf(e *event.Event, shown int) any {
	switch d := e.Data.(type) {
	case event.MembersAdded:
		d.Members = d.Members[:min(len(d.Members), shown)]
		return struct {
			event.MembersAdded
			UserIDs []string `json:"userIds"`
		}{d, e.Concerned}
	case event.MemberRemoved:
		return struct {
			event.MemberRemoved
			UserIDs []string `json:"userIds"`
		}{d, e.Concerned}
	case *event.MessageReactions:
		if shown < shownMembers {
			few := *d
			few.By = d.By[:min(len(d.By), crowdPerShown*shown)]
			return few
		}
	case event.MembersUpdated:
		d.Members = d.Members[:min(len(d.Members), shown)]
		return struct {
			event.MembersUpdated
			UserIDs []string `json:"userIds"`
		}{d, e.Concerned}
	}
	return e.Data
}
