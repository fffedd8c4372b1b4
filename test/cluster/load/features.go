package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"sync"
)

// withFeatures is the argument that has people use more than messages.
const withFeatures = "features"

// mentionEvery says which sends mention somebody.
const mentionEvery = 5

const reaction = "👍"

// features is what people did besides sending, as it was answered. What got no answer may have happened or not, and is not held against
// the result.
type features struct {
	turn sync.Mutex // held for a change of a pin, of a mute or of a text, which come one after another

	mu       sync.Mutex                 // guards what follows
	last     *sentMessage               // the newest message
	reacted  map[string]map[string]bool // by message, who reacted
	mentions map[string]bool            // messages that mention somebody
	edited   map[string]string          // by message, its content
	muted    map[*person]bool
	pinned   string          // a message
	unknown  map[string]bool // messages and people with a change that got no answer
	done     int
}

type sentMessage struct {
	id     string
	sender *person
}

func newFeatures() *features {
	return &features{
		reacted: map[string]map[string]bool{}, mentions: map[string]bool{}, edited: map[string]string{}, muted: map[*person]bool{}, unknown: map[string]bool{},
	}
}

// sent notes a message.
func (f *features) sent(p *person, id string, mentions bool, err error) {
	if err != nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last = &sentMessage{id, p}
	if mentions {
		f.mentions[id] = true
		f.done++
	}
}

// useFeature has a person react, pin, mute or edit, in turn.
func (l *load) useFeature(p *person, n int) {
	f := l.features
	f.mu.Lock()
	last := f.last
	f.mu.Unlock()
	if last == nil {
		return
	}
	path := "/messages/" + last.id
	switch n / len(l.people) % 4 { // each person does each, within the limits of reactions
	case 0:
		l.change(last.id, "PUT", path+"/reactions/"+url.PathEscape(reaction), p, nil, func() {
			if f.reacted[last.id] == nil {
				f.reacted[last.id] = map[string]bool{}
			}
			f.reacted[last.id][p.id] = true
		})
	case 1:
		l.pin(last.id)
	case 2:
		l.mute(p)
	case 3:
		l.edit(last, fmt.Sprint("edited in turn ", n))
	}
}

// change makes a request that changes the thing of that id. done is called if it succeeded.
func (l *load) change(id, method, path string, p *person, body any, done func()) {
	var ignored json.RawMessage
	err := p.Call(context.Background(), method, path, body, &ignored)
	l.count(err)
	f := l.features
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil {
		f.unknown[id] = true
		return
	}
	f.done++
	done()
}

// pin pins a message, as the owner, instead of the one before.
func (l *load) pin(id string) {
	f, owner := l.features, l.people[0]
	f.turn.Lock()
	defer f.turn.Unlock()
	f.mu.Lock()
	before := f.pinned
	f.mu.Unlock()
	if before != "" {
		l.change("pins", "DELETE", "/messages/"+before+"/pin", owner, nil, func() { f.pinned = "" })
	}
	l.change("pins", "PUT", "/messages/"+id+"/pin", owner, nil, func() { f.pinned = id })
}

// edit edits a message, as its sender. Of two edits at once the one that is answered first need not be the first.
func (l *load) edit(m *sentMessage, content string) {
	f := l.features
	f.turn.Lock()
	defer f.turn.Unlock()
	l.change(m.id, "PATCH", "/messages/"+m.id, m.sender, map[string]string{"content": content}, func() { f.edited[m.id] = content })
}

// mute mutes the conversation for a person, or ends that.
func (l *load) mute(p *person) {
	f := l.features
	f.turn.Lock()
	defer f.turn.Unlock()
	f.mu.Lock()
	muted := !f.muted[p]
	f.mu.Unlock()
	var until any
	if muted {
		until = "forever"
	}
	l.change(p.id, "PATCH", "/conversations/"+l.conversation+"/me", p, map[string]any{"mutedUntil": until}, func() { f.muted[p] = muted })
}

// shown is a message as people see it.
type shown struct {
	Content   string `json:"content"`
	Reactions []struct {
		Reaction string `json:"reaction"`
		Count    int    `json:"count"`
	} `json:"reactions"`
	Mentions *struct {
		UserIDs []string `json:"userIds"`
	} `json:"mentions"`
}

// faultsOfFeatures counts what is not as it was answered, by feature. The report has the first twenty in words.
type faultsOfFeatures struct {
	*load
	counts map[string]int
}

func (f *faultsOfFeatures) add(feature, format string, args ...any) {
	f.counts[feature]++
	if len(f.report.Wrong) < 20 {
		f.report.Wrong = append(f.report.Wrong, fmt.Sprintf(format, args...))
	}
}

// verifyFeatures compares what was answered with what is there, and returns the number of faults of each feature. The report has the first
// twenty in words.
func (l *load) verifyFeatures() (faults map[string]int, err error) {
	l.report.Features, l.report.Wrong = l.features.done, nil
	f := &faultsOfFeatures{l, map[string]int{}}
	for _, verify := range []func() error{f.verifyMessages, f.verifyPins, f.verifyMutes} {
		if err := verify(); err != nil {
			return nil, err
		}
	}
	return f.counts, nil
}

// verifyMessages compares the reactions, mentions and edits of all messages that have some.
func (f *faultsOfFeatures) verifyMessages() error {
	for id := range f.features.touched() {
		var m shown
		if err := f.people[0].Call(context.Background(), "GET", "/messages/"+id, nil, &m); err != nil {
			return err
		}
		f.verifyMessage(id, &m)
	}
	return nil
}

func (f *faultsOfFeatures) verifyMessage(id string, m *shown) {
	did := f.features
	if n := len(did.reacted[id]); n > 0 && (len(m.Reactions) != 1 || m.Reactions[0].Reaction != reaction || m.Reactions[0].Count != n) {
		f.add("reactions", "%s has the reactions %v of %d people", id, m.Reactions, n)
	}
	if did.mentions[id] && m.Mentions == nil {
		f.add("mentions", "%s mentions nobody", id)
	}
	if content := did.edited[id]; content != "" && m.Content != content {
		f.add("edits", "%s is %q, and was edited to %q", id, m.Content, content)
	}
}

// verifyPins compares what is pinned, unless a change of it got no answer.
func (f *faultsOfFeatures) verifyPins() error {
	if f.features.unknown["pins"] {
		return nil
	}
	var pins struct{ Data []message }
	if err := f.people[0].Call(context.Background(), "GET", "/conversations/"+f.conversation+"/pins", nil, &pins); err != nil {
		return err
	}
	var want []string
	if f.features.pinned != "" {
		want = append(want, f.features.pinned)
	}
	if !slices.EqualFunc(pins.Data, want, func(m message, id string) bool { return m.ID == id }) {
		f.add("pins", "pinned is %v instead of %v", pins.Data, want)
	}
	return nil
}

// verifyMutes compares for whom the conversation is muted, except for people with a change that got no answer.
func (f *faultsOfFeatures) verifyMutes() error {
	for p, muted := range f.features.muted {
		var c struct {
			MutedUntil *string `json:"mutedUntil"`
		}
		if err := p.Call(context.Background(), "GET", "/conversations/"+f.conversation, nil, &c); err != nil {
			return err
		}
		if !f.features.unknown[p.id] && (c.MutedUntil != nil) != muted {
			f.add("mutes", "%s has it muted until %v instead of %v", p.id, c.MutedUntil, muted)
		}
	}
	return nil
}

// touched are the messages that have something, every change of which was answered.
func (f *features) touched() map[string]bool {
	out := map[string]bool{}
	for id := range f.reacted {
		out[id] = true
	}
	for id := range f.mentions {
		out[id] = true
	}
	for id := range f.edited {
		out[id] = true
	}
	for id := range f.unknown {
		delete(out, id)
	}
	return out
}
