package main

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/parley-chat/parley/internal/client"
)

// How often people do more than write and read: for each message sent, but for withExtras, which is of the messages.
const (
	withExtras = 0.1
	reacting   = 0.5
	editing    = 0.05
	pinning    = 0.1
	ownState   = 0.1
)

// addExtras has some messages mention a member and carry metadata.
func (p *person) addExtras(c *conversation, data map[string]any) {
	if rand.Float64() < withExtras {
		data["mentions"] = map[string]any{"userIds": []string{c.members[rand.IntN(len(c.members))].id}}
		p.b.stats.add("mentions", 1)
		data["metadata"] = map[string]any{"order": rand.IntN(1000)}
	}
}

// doMore has some of those who are here react, edit and change their own state. The caller holds t.mu.
func (t *town) doMore(ctx context.Context) {
	someone := func() *person { return t.here[rand.IntN(len(t.here))] }
	if rand.Float64() < reacting {
		someone().react()
	}
	if rand.Float64() < editing {
		p := someone()
		t.wg.Go(func() { t.edit(ctx, p) })
	}
	if rand.Float64() < pinning {
		p := someone()
		t.wg.Go(func() { t.pin(ctx, p) })
	}
	if rand.Float64() < ownState {
		p := someone()
		c := t.one(p)
		t.wg.Go(func() { t.changeOwnState(ctx, p, c) })
	}
}

// newest is the newest message of some conversation, "" if none came yet.
func (p *person) newest() (messageID string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, messageID = range p.last { // any
		return messageID
	}
	return ""
}

// react adds a reaction to the newest message of some conversation. The ack has it among the user's own.
func (p *person) react() {
	messageID := p.newest()
	if messageID == "" {
		return
	}
	reaction, start := []string{"👍", "🎉", "❤"}[rand.IntN(3)], time.Now()
	p.ask("reaction:add", p.b.frameID(), map[string]string{"messageId": messageID, "reaction": reaction}, func(ack []byte, err error) {
		if err != nil {
			return // it is counted
		}
		p.b.stats.timings("react").record(p.n, time.Since(start))
		p.b.stats.add("reactions", 1)
		if _, mine, found := bytes.Cut(ack, []byte(`"mine":`)); !found || !bytes.Contains(mine, []byte(reaction)) {
			p.b.violations.add("wrong reaction", "%s: %.200s", p.id, ack)
		}
	})
}

// edit changes the metadata of the newest message of some conversation, if it is their own: text would be counted as another message.
func (t *town) edit(ctx context.Context, p *person) {
	messageID := p.newest()
	if messageID == "" {
		return
	}
	start := time.Now()
	err := t.call(ctx, p, http.MethodPatch, "/messages/"+messageID, map[string]any{"metadata": map[string]any{"seen": rand.IntN(1000)}}, nil)
	if pr := client.ProblemOf(err); pr != nil && pr.Status == http.StatusForbidden {
		return // another's
	}
	t.changed("edit", p, start, err)
}

// pin has the owner of some conversation pin or unpin its newest message.
func (t *town) pin(ctx context.Context, p *person) {
	c := t.one(p)
	p.mu.Lock()
	messageID := p.last[c.id]
	p.mu.Unlock()
	if messageID == "" {
		return
	}
	start, method := time.Now(), []string{http.MethodPut, http.MethodDelete}[rand.IntN(2)]
	err := t.call(ctx, c.members[0], method, "/messages/"+messageID+"/pin", nil, nil)
	if pr := client.ProblemOf(err); pr != nil && pr.Status == http.StatusConflict {
		return // as many as may be are pinned
	}
	t.changed("pins", p, start, err)
}

// changeOwnState mutes or pins a conversation, has it notify less, or ends that.
func (t *town) changeOwnState(ctx context.Context, p *person, c *conversation) {
	start := time.Now()
	state := []map[string]any{
		{"mutedUntil": "forever"}, {"mutedUntil": nil}, {"notifications": "mentions"}, {"notifications": nil}, {"pinned": true}, {"pinned": false},
	}[rand.IntN(6)]
	err := t.call(ctx, p, http.MethodPatch, "/conversations/"+c.id+"/me", state, nil)
	t.changed("own state", p, start, err)
}

// changed counts a change, or that it failed. The end of the load fails no change.
func (t *town) changed(kind string, p *person, start time.Time, err error) {
	switch {
	case err == nil:
		t.stats.timings(kind).record(p.n, time.Since(start))
		t.stats.add(kind, 1)
	case !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded):
		t.stats.add("failed "+kind, 1)
	}
}

// countUnread asks for the totals, as a badge does.
func (t *town) countUnread(ctx context.Context, p *person) {
	var u struct{ Messages, Mentions, Conversations int64 }
	if err := p.get(ctx, "unread", time.Now(), "/unread", &u); err == nil && (u.Mentions > u.Messages || u.Conversations > u.Messages) {
		t.violations.add("wrong totals", "%s: %+v", p.id, u)
	}
}
