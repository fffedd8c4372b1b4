package message_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/parley-chat/parley/internal/audit"
	"github.com/parley-chat/parley/internal/conversation"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/jsonbody"
	"github.com/parley-chat/parley/internal/message"
	"github.com/parley-chat/parley/internal/testenv"
)

// world does things at random.
type world struct {
	p      *pod
	rng    *rand.Rand
	users  []string
	groups []string
	sent   map[string][]string
	done   map[string]int // how often each action succeeded
}

// newWorld is one of five friends, three groups and a direct conversation.
func newWorld(t *testing.T, p *pod, rng *rand.Rand) *world {
	t.Helper()
	w := &world{p: p, rng: rng, users: testenv.Users(t, p.db.SQL, 5), sent: map[string][]string{}, done: map[string]int{}}
	_, err := p.db.SQL.ExecContext(t.Context(), `INSERT INTO friendships (user_id, friend_id, status)
		SELECT a, b, 'accepted' FROM unnest($1::text[]::uuid[]) a, unnest($1::text[]::uuid[]) b WHERE a <> b`, w.users)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		w.groups = append(w.groups, p.group(t, w.users...))
	}
	w.groups = append(w.groups, p.direct(t, w.users[0], w.users[1]))
	return w
}

func (w *world) pick(list []string) string { return list[w.rng.IntN(len(list))] }

// text is something that nobody wrote before, most probably.
func (w *world) text() string { return fmt.Sprint(w.rng.Int()) }

// decoded is an input as a client sends it.
func decoded[T any, P interface {
	*T
	jsonbody.Checker
}](t *testing.T, body string) P {
	t.Helper()
	v := P(new(T))
	if err := jsonbody.Decode([]byte(body), v); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	return v
}

func metadataOf(w *world) string { return fmt.Sprintf(`{"k%d":%d}`, w.rng.IntN(3), w.rng.IntN(100)) }

// actions are all kinds of changes, each as likely as it has lines. One that a role or a bound forbids is a result like any other.
var actions = []struct {
	name   string
	weight int
	do     func(t *testing.T, w *world, group, user, messageID string) error
}{
	{"send", 12, func(t *testing.T, w *world, group, user, _ string) error {
		d := message.Draft{Content: w.text()}
		if len(w.sent[group]) > 0 && w.rng.IntN(4) == 0 {
			reply := w.pick(w.sent[group])
			d.ReplyToID = &reply
		}
		if w.rng.IntN(4) == 0 {
			d.Metadata = []byte(metadataOf(w))
		}
		if w.rng.IntN(4) == 0 {
			d.Mentions = &message.MentionList{UserIDs: []string{w.pick(w.users)}, All: w.rng.IntN(4) == 0}
		}
		m, _, err := w.p.messages.Send(t.Context(), group, user, &d)
		if err == nil {
			w.sent[group] = append(w.sent[group], m.ID)
		}
		return err
	}},
	{"edit", 4, func(t *testing.T, w *world, _, user, id string) error {
		_, err := w.p.messages.Edit(t.Context(), id, user, &message.Edit{Content: jsonbody.Optional[string]{Set: true, Value: w.text()}})
		return err
	}},
	{"metadata", 2, func(t *testing.T, w *world, _, user, id string) error {
		_, err := w.p.messages.Edit(t.Context(), id, user, &message.Edit{Metadata: []byte(metadataOf(w))})
		return err
	}},
	{"mentions", 2, func(t *testing.T, w *world, _, user, id string) error {
		_, err := w.p.messages.Edit(t.Context(), id, user, &message.Edit{Mentions: jsonbody.Optional[message.MentionList]{
			Set: true, Value: message.MentionList{UserIDs: []string{w.pick(w.users)}, All: w.rng.IntN(2) == 0}}})
		return err
	}},
	{"delete", 1, func(t *testing.T, w *world, _, user, id string) error {
		return w.p.messages.Delete(t.Context(), id, user)
	}},
	{"react", 4, func(t *testing.T, w *world, _, user, id string) error {
		_, err := w.p.messages.React(t.Context(), id, user, w.pick([]string{"+1", "-1", "x"}), w.rng.IntN(3) > 0)
		return err
	}},
	{"pin", 2, func(t *testing.T, w *world, _, user, id string) error {
		_, err := w.p.messages.Pin(t.Context(), id, user, w.rng.IntN(3) > 0)
		return err
	}},
	{"add", 2, func(t *testing.T, w *world, group, user, _ string) error {
		_, err := w.p.conversations.Add(t.Context(), group, user, &conversation.Addition{UserIDs: []string{w.pick(w.users)}})
		return err
	}},
	{"remove", 1, func(t *testing.T, w *world, group, user, _ string) error {
		return w.p.conversations.Remove(t.Context(), group, user, w.pick(w.users))
	}},
	{"role", 2, func(t *testing.T, w *world, group, user, _ string) error {
		_, err := w.p.conversations.SetRole(t.Context(), group, user, w.pick(w.users), &conversation.RoleChange{Role: w.pick([]string{"owner", "admin", "member"})})
		return err
	}},
	{"patch", 2, func(t *testing.T, w *world, group, user, _ string) error {
		_, err := w.p.conversations.Update(t.Context(), group, user, decoded[conversation.Patch](t, w.pick([]string{
			`{"name":"n` + w.text() + `"}`, `{"description":"` + w.text() + `"}`, `{"description":null,"avatarUrl":"https://example.com/a.png"}`,
			`{"metadata":` + metadataOf(w) + `}`, `{"posting":"admins"}`, `{"posting":"members"}`, `{"posting":"members"}`,
		})))
		return err
	}},
	{"own state", 4, func(t *testing.T, w *world, group, user, id string) error {
		c := decoded[conversation.StateChange](t, w.pick([]string{
			`{"archived":true,"pinned":false}`, `{"archived":false}`, `{"pinned":true}`, `{"hidden":true}`, `{"hidden":false}`,
			`{"notifications":"mentions"}`, `{"notifications":null}`, `{"mutedUntil":"forever"}`, `{"mutedUntil":null}`, `{"unreadFrom":"` + id + `"}`,
		}))
		_, err := w.p.conversations.UpdateState(t.Context(), group, user, c)
		return err
	}},
	{"members by a key", 1, func(t *testing.T, w *world, group, _, _ string) error {
		ctx := audit.With(t.Context(), audit.Actor{KeyID: id.New()})
		_, err := w.p.conversations.AddByKey(ctx, group, []conversation.KeyedMember{{UserID: w.pick(w.users), Role: w.pick([]string{"", "admin"})}})
		return err
	}},
	{"another group", 1, func(t *testing.T, w *world, group, user, _ string) error {
		if err := w.p.conversations.Delete(t.Context(), group, user); err != nil {
			return err
		}
		w.groups = append(slices.DeleteFunc(w.groups, func(g string) bool { return g == group }), w.p.group(t, w.users...))
		return nil
	}},
}

// step does one thing.
func (w *world) step(t *testing.T) {
	t.Helper()
	total := 0
	for _, a := range actions {
		total += a.weight
	}
	at := w.rng.IntN(total)
	for _, a := range actions {
		if at -= a.weight; at >= 0 {
			continue
		}
		group, messageID := w.pick(w.groups), id.New()
		if len(w.sent[group]) > 0 {
			messageID = w.pick(w.sent[group])
		}
		if a.do(t, w, group, w.pick(w.users), messageID) == nil {
			w.done[a.name]++
		}
		return
	}
}
