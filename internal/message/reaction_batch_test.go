package message_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/parley-chat/parley/internal/audit"
	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/message"
	"github.com/parley-chat/parley/internal/testenv"
)

// reactionModel is what the reactions to one message should be.
type reactionModel struct {
	all     []chat.Reaction
	own     map[string][]string // by user, in the order of addition
	changes int64               // batches that changed something
}

func (m *reactionModel) has(reaction string) bool {
	return slices.ContainsFunc(m.all, func(r chat.Reaction) bool { return r.Reaction == reaction })
}

// apply applies the changes of one batch. Bounds are held against the state before the batch and the additions before the change.
func (m *reactionModel) apply(changes []message.Reacting) (outcomes []string, moved int) {
	moves, order := map[string]int{}, []string(nil)
	added, kinds := map[string]int{}, map[string]int{}
	after := map[string][]string{}
	for u, list := range m.own {
		after[u] = slices.Clone(list)
	}
	for _, c := range changes {
		outcome := "done"
		switch has := slices.Contains(m.own[c.User], c.Reaction); {
		case has == c.Added:
		case has:
			moved++
			moves[c.Reaction]--
			after[c.User] = slices.DeleteFunc(after[c.User], func(r string) bool { return r == c.Reaction })
		default:
			added[c.User]++
			fits := len(m.own[c.User])+added[c.User] <= 10
			if fits && !m.has(c.Reaction) {
				if kinds[c.Reaction] == 0 {
					kinds[c.Reaction] = len(m.all) + len(kinds) + 1
					order = append(order, c.Reaction)
				}
				fits = kinds[c.Reaction] <= 20
			}
			if !fits {
				outcome = "too_many"
				break
			}
			moved++
			moves[c.Reaction]++
			after[c.User] = append(after[c.User], c.Reaction)
		}
		outcomes = append(outcomes, outcome)
	}
	if moved == 0 {
		return outcomes, 0
	}
	m.own = after
	m.changes++
	for _, r := range order {
		m.all = append(m.all, chat.Reaction{Reaction: r})
	}
	for i := range m.all {
		m.all[i].Count += moves[m.all[i].Reaction]
	}
	m.all = slices.DeleteFunc(m.all, func(r chat.Reaction) bool { return r.Count == 0 })
	return outcomes, moved
}

// ofMessage are the changes of one message among those of a batch, with their places.
func ofMessage(batch []message.Reacting, id string) (changes []message.Reacting, places []int) {
	for i, c := range batch {
		if c.Message == id {
			changes, places = append(changes, c), append(places, i)
		}
	}
	return changes, places
}

// Batches of random changes of several messages do what a model says: near the bounds of users and of messages, with changes that
// change nothing, and with removals and additions of one reaction in one batch.
func TestBatchesOfReactionsAreAsTheModel(t *testing.T) {
	t.Parallel()
	p := newPod(t, testenv.Postgres(t))
	users := testenv.Users(t, p.db.SQL, 6)
	rng := rand.New(rand.NewPCG(17, 4))
	var ids []string
	models := map[string]*reactionModel{}
	for range 2 {
		group := p.group(t, users...)
		for range 2 {
			m := p.send(t, group, users[0], "hello")
			ids = append(ids, m.ID)
			models[m.ID] = &reactionModel{own: map[string][]string{}}
		}
	}
	refused, audited := 0, 0
	for range 300 {
		batch := randomBatch(rng, ids, users)
		ctx, keyed := t.Context(), rng.IntN(2) == 0
		if keyed {
			a := audit.Actor{KeyID: id.New(), RequestID: "r"}
			ctx = audit.WithRequest(ctx, a, audit.Entry{Action: "message.react"})
		}
		outcomes, results, err := p.messages.ReactTogether(ctx, batch)
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range ids {
			changes, places := ofMessage(batch, id)
			m := models[id]
			want, moved := m.apply(changes)
			if keyed {
				audited += moved
			}
			for i, place := range places {
				stored, err := p.messages.Get(t.Context(), id, changes[i].User)
				if err != nil {
					t.Fatal(err)
				}
				if outcomes[place] == "too_many" {
					refused++
				}
				mine := m.own[changes[i].User]
				same := func(reactions []chat.Reaction, own []string, revision int64) bool {
					return slices.Equal(reactions, m.all) && slices.Equal(own, mine) && revision == stored.Revision
				}
				r := results[place]
				if outcomes[place] != want[i] || r.Mine == nil || !same(r.Reactions, r.Mine, r.Revision) || !same(stored.Reactions, stored.Mine, stored.Revision) {
					t.Fatalf("%+v of %+v:\n%s, want %s\n%+v, stored %+v,\nwant %+v and %v", changes[i], batch, outcomes[place], want[i], r, stored, m.all, mine)
				}
			}
		}
	}
	if refused < 100 || audited < 100 {
		t.Errorf("only %d changes were refused and %d audited", refused, audited)
	}
	var entries int
	if err := p.db.SQL.QueryRow(`SELECT count(*) FROM audit_log`).Scan(&entries); err != nil || entries != audited {
		t.Errorf("%d entries of the audit log, %v, want %d", entries, err, audited)
	}
	journalMatches(t, p, models)
}

// randomBatch is of one change often, which is the commonest batch, or of two, the smallest in which changes meet.
func randomBatch(rng *rand.Rand, ids, users []string) (batch []message.Reacting) {
	seen := map[string]bool{}
	for range []int{1, 1, 2, 5, 60}[rng.IntN(5)] {
		c := message.Reacting{Message: ids[rng.IntN(len(ids))], User: users[rng.IntN(len(users))], Reaction: fmt.Sprintf("r%d", rng.IntN(24)), Added: rng.IntN(5) > 1}
		if key := c.Message + c.User + c.Reaction; !seen[key] {
			seen[key] = true
			batch = append(batch, c)
		}
	}
	return batch
}

// journalMatches checks that each batch brought each message that it changed one revision, with a row in the journal, and no others.
func journalMatches(t *testing.T, p *pod, models map[string]*reactionModel) {
	t.Helper()
	for id, m := range models {
		var changes int64
		err := p.db.SQL.QueryRow(`SELECT count(*) FROM conversation_changes
			WHERE message_id = $1 AND detail = 'message_reacted' AND (actor_id IS NOT NULL) = (cardinality(user_ids) = 1)`, id).Scan(&changes)
		if err != nil || changes != m.changes {
			t.Errorf("%d changes in the journal, %v, want %d", changes, err, m.changes)
		}
	}
	var gaps int
	err := p.db.SQL.QueryRow(`SELECT count(*) FROM conversations c
		WHERE c.revision <> c.last_seq + (SELECT count(*) FROM conversation_changes x WHERE x.conversation_id = c.id)`).Scan(&gaps)
	if err != nil || gaps > 0 {
		t.Errorf("%d conversations have revisions without a message or a change, %v", gaps, err)
	}
}
