package test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/testenv"
)

// person is somebody who does one thing at a time.
type person struct {
	user
	life   *life
	rng    *rand.Rand
	device *deviceCopy
}

// room is a conversation as the model has it.
type room struct {
	id string
	// people have their places in it, which only they themselves change while all go on at once.
	people map[*person]*place

	mu    sync.Mutex // guards notes
	notes []*note    // by seq, from 1 on; nil for one whose sender has not heard of it yet
}

// place is somebody's own state.
type place struct {
	read                    int64
	marked, muted, archived bool
	hiddenAt                int64 // the last seq when it was hidden, -1 if it was not
}

// note is a message.
type note struct {
	id      string
	sender  *person
	deleted bool
	all     bool
	users   []string
}

func newRoom(id string, people ...*person) *room {
	r := &room{id: id, people: map[*person]*place{}}
	for _, p := range people {
		r.people[p] = &place{hiddenAt: -1}
	}
	return r
}

func (r *room) put(seq int64, n *note) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for int64(len(r.notes)) < seq {
		r.notes = append(r.notes, nil)
	}
	r.notes[seq-1] = n
}

// pick is some message, nil if there is none; of a sender if that is set.
func (r *room) pick(rng *rand.Rand, sender *person) (seq int64, n *note) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for range 5 {
		if len(r.notes) == 0 {
			break
		}
		i := len(r.notes) - 1 - rng.IntN(min(len(r.notes), 30))
		if x := r.notes[i]; x != nil && (sender == nil || x.sender == sender && !x.deleted) {
			return int64(i + 1), x
		}
	}
	return 0, nil
}

func (w *place) forward(seq int64) {
	if seq > w.read {
		w.read, w.marked = seq, false
	}
}

// mentions are those of a new version of a message.
func (p *person) mentions(r *room, n *note) anyJSON {
	n.users, n.all = nil, p.rng.IntN(8) == 0
	for x := range r.people {
		if len(n.users) < 2 && p.rng.IntN(4) == 0 {
			n.users = append(n.users, x.ID)
		}
	}
	return anyJSON{"userIds": append([]string{}, n.users...), "all": n.all}
}

// act does something at random in a room of the person's, and in the model.
func (p *person) act() {
	r := p.life.rooms[p.rng.IntN(len(p.life.rooms))]
	for r.people[p] == nil {
		r = p.life.rooms[p.rng.IntN(len(p.life.rooms))]
	}
	at := "/api/conversations/" + r.id
	w := r.people[p]
	seq, n := r.pick(p.rng, nil)
	own, mine := r.pick(p.rng, p)
	switch k := p.rng.IntN(20); {
	case k < 7 || n == nil:
		p.send(r)
	case k < 10:
		p.life.insist(p.user, "POST", "/api/messages/"+n.id+"/read", nil, 204)
		w.forward(seq)
	case k < 11:
		p.life.insist(p.user, "POST", at+"/read", anyJSON{"upToMessageId": n.id}, 204)
		w.forward(seq)
	case k < 12:
		p.life.insist(p.user, "POST", "/api/conversations/read", anyJSON{"conversations": anyJSON{r.id: n.id}}, 204)
		w.forward(seq)
	case k < 14:
		p.life.insist(p.user, "PATCH", at+"/me", anyJSON{"unreadFrom": n.id}, 200)
		w.read, w.marked = min(w.read, seq-1), true
	case k < 15:
		w.muted = !w.muted
		p.life.insist(p.user, "PATCH", at+"/me", anyJSON{"mutedUntil": map[bool]any{true: "forever"}[w.muted]}, 200)
	case k < 16:
		w.archived = !w.archived
		p.life.insist(p.user, "PATCH", at+"/me", anyJSON{"archived": w.archived}, 200)
	case k < 17:
		p.life.insist(p.user, "PUT", "/api/messages/"+n.id+"/reactions/x", nil, 200, 409) // a deleted one takes none
	case mine == nil:
	case k < 19:
		next := *mine
		p.life.insist(p.user, "PATCH", "/api/messages/"+mine.id, anyJSON{"mentions": p.mentions(r, &next)}, 200)
		r.put(own, &next)
	default:
		next := *mine
		next.deleted = true
		p.life.insist(p.user, "DELETE", "/api/messages/"+mine.id, nil, 204)
		r.put(own, &next)
	}
}

func (p *person) send(r *room) {
	n := &note{sender: p}
	body := anyJSON{"content": "x", "clientMessageId": fmt.Sprint(p.rng.Int64())}
	if p.rng.IntN(2) == 0 {
		body["mentions"] = p.mentions(r, n)
	}
	var m message
	p.life.insist(p.user, "POST", "/api/conversations/"+r.id+"/messages", body, 201, 200).into(p.life.t, &m)
	n.id = m.ID
	r.put(m.Seq, n)
	r.people[p].forward(m.Seq)
}

// alone does what the model could not follow while others go on: it depends on the last seq of the moment.
func (l *life) alone() {
	r := l.rooms[l.rng.IntN(len(l.rooms))]
	owner, p := l.people[0], l.people[1+l.rng.IntN(len(l.people)-1)]
	at, w := "/api/conversations/"+r.id, r.people[p]
	switch group := len(r.people) > 2; {
	case w == nil && r.people[owner] != nil && group:
		l.insist(owner.user, "POST", at+"/members", anyJSON{"userIds": []string{p.ID}}, 200)
		r.people[p] = &place{read: int64(len(r.notes)), hiddenAt: -1}
	case w == nil:
	case group && l.rng.IntN(4) == 0 && len(r.people) > 4:
		l.insist(owner.user, "DELETE", at+"/members/"+p.ID, nil, 204, 404)
		delete(r.people, p)
	case l.rng.IntN(3) == 0:
		l.insist(p.user, "POST", "/api/conversations/read", anyJSON{"all": true}, 204)
		for _, x := range l.rooms {
			if y := x.people[p]; y != nil {
				y.forward(int64(len(x.notes)))
			}
		}
	case w.hiddenAt < 0:
		l.insist(p.user, "PATCH", at+"/me", anyJSON{"hidden": true}, 200)
		w.hiddenAt = int64(len(r.notes))
	default:
		l.insist(p.user, "PATCH", at+"/me", anyJSON{"hidden": false}, 200)
		w.hiddenAt = -1
	}
}

// shown is what a list shows of somebody's own state.
type shown struct {
	ID                                              string
	LastSeq, LastReadSeq, UnreadCount, MentionCount int64
	MarkedUnread, Hidden                            bool
	MutedUntil, ArchivedAt                          *string
}

// state is the model's.
type state struct {
	last, read, unread, mentions    int64
	marked, muted, archived, hidden bool
}

func (r *room) state(p *person) state {
	w := r.people[p]
	s := state{last: int64(len(r.notes)), read: w.read, marked: w.marked, muted: w.muted, archived: w.archived}
	s.unread, s.hidden = s.last-s.read, s.last <= w.hiddenAt
	for i, n := range r.notes {
		if int64(i) >= w.read && !n.deleted && n.sender != p && (n.all || slices.Contains(n.users, p.ID)) {
			s.mentions++
		}
	}
	return s
}

func (s shown) state() state {
	return state{s.LastSeq, s.LastReadSeq, s.UnreadCount, s.MentionCount, s.MarkedUnread, s.MutedUntil != nil, s.ArchivedAt != nil, s.Hidden}
}

type sums struct{ Messages, Mentions, Conversations int64 }

// check compares what both pods show to everybody with the model, and with a copy that is kept by sync.
func (l *life) check(when string) {
	l.t.Helper()
	for _, p := range l.people {
		m := l.model(p)
		for i := range 2 {
			if wrong := p.settledDifference(l.pod(i), m); wrong != "" {
				l.t.Errorf("%s: %s", when, wrong)
				return
			}
		}
		p.device.compare(l.t, l.pod(l.rng.IntN(2)), p.user, when)
	}
}

// modelled is what a person must see.
type modelled struct {
	states       map[string]state
	total, muted sums // without and with muted conversations
}

// model is what the model shows to a person.
func (l *life) model(p *person) modelled {
	m := modelled{states: map[string]state{}}
	for _, r := range l.rooms {
		if r.people[p] == nil {
			continue
		}
		s := r.state(p)
		m.states[r.id] = s
		if s.archived || s.hidden || s.unread == 0 && !s.marked {
			continue
		}
		m.muted = m.muted.plus(s)
		if !s.muted {
			m.total = m.total.plus(s)
		}
	}
	return m
}

// plus counts one more conversation.
func (s sums) plus(of state) sums {
	return sums{s.Messages + of.unread, s.Mentions + of.mentions, s.Conversations + 1}
}

// settledDifference is what a pod shows otherwise than the model, "" for nothing. The pod may still find out that Redis is back.
func (p *person) settledDifference(at *pod, m modelled) string {
	for limit := testenv.NewLimit(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		wrong := p.differs(at, m.states, m.total, m.muted)
		if wrong == "" || limit.Over() {
			return wrong
		}
	}
}

// differs is what a pod shows otherwise than the model, "" for nothing.
func (p *person) differs(at *pod, want map[string]state, total, muted sums) string {
	t := p.life.t
	var list struct{ Data []shown }
	got := map[string]state{}
	at.want(t, 200, p.token, "GET", "/api/conversations?filter=all&limit=100", nil).into(t, &list)
	for _, s := range list.Data {
		got[s.ID] = s.state()
	}
	if !reflect.DeepEqual(got, want) {
		return fmt.Sprintf("it lists %+v, want %+v", got, want)
	}
	for query, w := range map[string]sums{"": total, "?muted=true": muted} {
		var sum sums
		if at.want(t, 200, p.token, "GET", "/api/unread"+query, nil).into(t, &sum); sum != w {
			return fmt.Sprintf("unread%s are %+v, want %+v", query, sum, w)
		}
	}
	return ""
}

// deviceCopy is what a device has of its user's conversations by sync alone.
type deviceCopy struct {
	revisions     map[string]int64
	state         int64
	conversations map[string]map[string]json.RawMessage
}

func newCopy() *deviceCopy {
	return &deviceCopy{revisions: map[string]int64{}, conversations: map[string]map[string]json.RawMessage{}}
}

// compare brings the copy up to date over a new socket, and holds it against REST.
func (c *deviceCopy) compare(t *testing.T, p *pod, u user, when string) {
	t.Helper()
	sock := p.open(t, u)
	defer sock.conn.Close()
	for c.sync(sock) {
	}
	var list struct{ Data []map[string]json.RawMessage }
	p.want(t, 200, u.token, "GET", "/api/conversations?filter=all&limit=100", nil).into(t, &list)
	if len(list.Data) != len(c.conversations) {
		t.Errorf("%s: %s holds %d conversations of %d", when, u.ID, len(c.conversations), len(list.Data))
	}
	for _, want := range list.Data {
		var id string
		if err := json.Unmarshal(want["id"], &id); err != nil {
			t.Fatal(err)
		}
		held := maps.Clone(c.conversations[id])
		delete(held, "peerLastReadSeq") // which comes by conversation:markers
		delete(want, "peerLastReadSeq")
		if h, w := fmt.Sprintf("%s", held), fmt.Sprintf("%s", want); h != w {
			t.Errorf("%s: %s holds\n%s\nand there is\n%s", when, u.ID, h, w)
		}
	}
}

// sync asks once, and reports whether there is more.
func (c *deviceCopy) sync(sock *socket) (more bool) {
	sock.t.Helper()
	f := sock.ask("sync", anyJSON{"conversations": c.revisions, "state": c.state, "window": 20})
	var a struct {
		Conversations map[string]struct {
			Conversation json.RawMessage
			Revision     int64
			Complete     bool
		}
		Unknown, Gone []string
		State         struct {
			Revision      int64
			Conversations map[string]json.RawMessage
			Complete      bool
		}
	}
	if f.into(sock.t, &a); f.Type != "ack" {
		sock.t.Fatalf("sync: %s", f.Data)
	}
	for _, id := range a.Gone {
		delete(c.revisions, id)
		delete(c.conversations, id)
	}
	for id, part := range a.Conversations {
		c.revisions[id] = part.Revision
		more = more || !part.Complete
		if part.Conversation != nil {
			c.conversations[id] = map[string]json.RawMessage{}
			c.overlay(sock.t, id, part.Conversation)
		}
	}
	for _, id := range a.Unknown {
		c.revisions[id], more = 0, true
	}
	for id, s := range a.State.Conversations {
		if c.conversations[id] != nil {
			c.overlay(sock.t, id, s)
		}
	}
	c.state = a.State.Revision
	return more || !a.State.Complete
}

func (c *deviceCopy) overlay(t testing.TB, id string, object json.RawMessage) {
	t.Helper()
	m := c.conversations[id]
	if err := json.Unmarshal(object, &m); err != nil {
		t.Fatal(err)
	}
}
