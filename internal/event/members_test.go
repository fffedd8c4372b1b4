package event_test

import (
	"testing"

	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/event"
)

// One new member is in members alone; of several, userIds has all and members the first 20.
func TestSeveralNewMembersAreNamed(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]struct{ members, userIDs int }{1: {1, 0}, 2: {2, 2}, 25: {20, 25}} {
		data, _ := event.MemberAdded(&chat.Conversation{}, make([]chat.Member, n), 0).Data.(event.MembersAdded)
		if len(data.Members) != want.members || len(data.UserIDs) != want.userIDs {
			t.Errorf("%d new ones: %d members, %d ids", n, len(data.Members), len(data.UserIDs))
		}
	}
}
