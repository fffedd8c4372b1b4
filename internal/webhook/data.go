package webhook

import "github.com/parley-chat/parley/internal/event"

const (
	// shownMembers is how many members an event has at most; userIds has all.
	shownMembers = 20
	// maxBody is the largest size of a body in bytes. A longer one is built again with fewer members, or fewer of the users who reacted.
	maxBody = 256 << 10
	// crowdPerShown is how many users who reacted a shortened body has for each member that it would show.
	crowdPerShown = 40
)

// dataOf returns the data of an event as webhooks have it. Events of members have two more lists: userIds are all users that the change was
// about, including those who have left since; members are those of them who are members now, at most shown.
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
