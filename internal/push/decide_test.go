package push

import (
	"testing"
	"time"
)

// Every row of the decision.
func TestDecisions(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 27, 20, 0, 0, 0, time.UTC)
	plain := []due{{id: "m1", senderID: "ben", seq: 5, createdAt: at}}
	named := []due{{id: "m1", senderID: "ben", seq: 5, createdAt: at, mentioned: []string{"cleo", "ana"}}}
	all := []due{{id: "m1", senderID: "ben", seq: 5, createdAt: at, mentionsAll: true}}
	for _, c := range []struct {
		name     string
		member   member
		members  int
		messages []due
		want     string
		push     string
	}{
		{"unread", member{}, 2, plain, outcomeSent, "m1"},
		{"the user's own", member{userID: "ben"}, 2, plain, outcomeOwn, ""},
		{"read in between", member{readSeq: 5}, 2, plain, outcomeRead, ""},
		{"read before", member{readSeq: 4}, 2, plain, outcomeSent, "m1"},
		{"active", member{active: true}, 2, plain, outcomeActive, ""},
		{"blocked", member{blocked: map[string]bool{"ben": true}}, 3, plain, outcomeBlocked, ""},
		{"another blocked", member{blocked: map[string]bool{"cleo": true}}, 3, plain, outcomeSent, "m1"},
		{"banned, deactivated or deleted", member{barred: true}, 2, plain, outcomeBarred, ""},
		{"before the first device", member{devicesSince: at.Add(time.Second)}, 2, plain, outcomeEarlier, ""},
		{"muted", member{muted: true}, 2, plain, outcomeMuted, ""},
		{"muted, mentioned by name", member{muted: true}, 2, named, outcomeSent, "m1"},
		{"muted, all mentioned", member{muted: true}, 2, all, outcomeMuted, ""},
		{"level mentions", member{level: LevelMentions}, 2, plain, outcomeLevel, ""},
		{"level mentions, by name", member{level: LevelMentions}, 2, named, outcomeSent, "m1"},
		{"level mentions, all mentioned", member{level: LevelMentions}, 2, all, outcomeSent, "m1"},
		{"level none", member{level: LevelNone}, 2, named, outcomeLevel, ""},
		{"level none is always none", member{level: LevelNone, notifications: LevelAll}, 2, named, outcomeLevel, ""},
		{"notifications all beat level", member{level: LevelMentions, notifications: LevelAll}, 2, plain, outcomeSent, "m1"},
		{"notifications mentions beat level", member{level: LevelAll, notifications: LevelMentions}, 2, plain, outcomeLevel, ""},
		{"notifications mentions, by name", member{notifications: LevelMentions}, 2, named, outcomeSent, "m1"},
		{"notifications none", member{notifications: LevelNone}, 2, named, outcomeLevel, ""},
		{"notifications none, muted and mentioned", member{notifications: LevelNone, muted: true}, 2, named, outcomeLevel, ""},
		{"100 members", member{}, 100, plain, outcomeSent, "m1"},
		{"above 100 members", member{}, 101, plain, outcomeLevel, ""},
		{"above 100 members, by name", member{}, 101, named, outcomeSent, "m1"},
		{"above 100 members, wants all", member{notifications: LevelAll}, 101, plain, outcomeSent, "m1"},
		{"the newest", member{}, 2, []due{{id: "a", senderID: "ben", seq: 1}, {id: "b", senderID: "ben", seq: 2}}, outcomeSent, "b"},
		{"the newest that is wanted", member{level: LevelMentions}, 2, []due{
			{id: "a", senderID: "ben", seq: 1, mentionsAll: true}, {id: "b", senderID: "ben", seq: 2},
		}, outcomeSent, "a"},
		{"own after another's", member{readSeq: 2}, 2, []due{{id: "a", senderID: "ben", seq: 1}, {id: "b", senderID: "ana", seq: 2}}, outcomeRead, ""},
	} {
		m := c.member
		if m.userID == "" {
			m.userID = "ana"
		}
		if m.level == "" {
			m.level = LevelAll
		}
		got, outcome := m.decide(c.members, c.messages)
		id := ""
		if got != nil {
			id = got.id
		}
		if outcome != c.want || id != c.push {
			t.Errorf("%s: %s %q, want %s %q", c.name, outcome, id, c.want, c.push)
		}
	}
}
