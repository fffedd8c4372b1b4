package main

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"time"
)

// stay is how long somebody stays online, at the least half of it.
const stay = 2 * time.Second

// visit is somebody who comes and goes, and whose friends are to hear of it.
type visit struct {
	friends []*person

	mu     sync.Mutex // guards what follows
	online bool       // what the friends are to hear
	since  time.Time
	heard  map[*person]bool
	all    chan struct{} // closed when all have
}

// expect begins a change.
func (v *visit) expect(online bool) chan struct{} {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.online, v.since, v.heard, v.all = online, time.Now(), map[*person]bool{}, make(chan struct{})
	return v.all
}

// hear notes that a friend heard of a change. Whether it was an event is false where the friend asked for the state.
func (v *visit) hear(p *person, online, event bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.heard == nil || online != v.online || v.heard[p] {
		return
	}
	v.heard[p] = true
	if event {
		kind := map[bool]string{true: "online", false: "offline"}[online]
		p.b.stats.timings(kind).record(p.n, time.Since(v.since))
		p.b.stats.add(kind+" delivered", 1)
	}
	if len(v.heard) == len(v.friends) {
		close(v.all)
	}
}

// preparePresence makes one half watch and the other come and go; each of these is a friend of --members of those.
func preparePresence(ctx context.Context, b *bench) error {
	watchers, guests := b.people[:len(b.people)/2], b.people[len(b.people)/2:]
	var pairs [][2]*person
	for i, g := range guests {
		v := &visit{}
		for k := range min(b.Members, len(watchers)) {
			w := watchers[(i*b.Members+k)%len(watchers)]
			w.friends = append(w.friends, g.id)
			v.friends = append(v.friends, w)
			pairs = append(pairs, [2]*person{g, w})
		}
		b.visits[g.id] = v
	}
	for chunk := range slices.Chunk(pairs, 10_000) {
		if err := b.made.befriend(ctx, chunk); err != nil {
			return err
		}
	}
	return b.connect(ctx, watchers)
}

// presence has each guest come, wait until all friends know, go, and wait again.
func presence(ctx context.Context, b *bench) error {
	ctx, cancel := b.lasting(ctx)
	defer cancel()
	guests := b.people[len(b.people)/2:]
	return b.each(ctx, guests, func(k int, g *person) error {
		v, hold := b.visits[g.id], context.WithoutCancel(ctx)
		err := pause(ctx, time.Duration(float64(k)/b.ConnectRate*float64(time.Second)))
		for err == nil {
			known := v.expect(true)
			if err := g.open(hold, time.Now(), true); err != nil {
				return err
			}
			b.known(ctx, v, known, g, "online")
			err = pause(ctx, stay/2+time.Duration(k)*stay/2/time.Duration(len(guests)))
			if err == nil {
				known = v.expect(false)
				g.close()
				b.known(ctx, v, known, g, "offline")
				err = ctx.Err()
			}
		}
		return err
	})
}

// presenceTime is how long the delivery of a change may take: longer than a presence outlives a killed pod.
const presenceTime = 90 * time.Second

// known waits until all friends know, or the time is over.
func (b *bench) known(ctx context.Context, v *visit, all chan struct{}, g *person, what string) {
	t := time.NewTimer(presenceTime)
	defer t.Stop()
	select {
	case <-all:
		b.stats.add("changes", 1)
	case <-ctx.Done():
	case <-t.C:
		v.mu.Lock()
		n := len(v.friends) - len(v.heard)
		v.mu.Unlock()
		b.violations.add("presence lost", "%d of %d friends were not notified that %s is %s", n, len(v.friends), g.id, what)
	}
}

// presence processes an event. Each change is delivered once to a socket.
func (p *person) presence(who string, online bool) {
	v := p.b.visits[who]
	if v == nil {
		return
	}
	p.mu.Lock()
	before, known := p.seen[who]
	p.seen[who] = online
	p.mu.Unlock()
	if known && before == online {
		p.b.violations.add("presence sent twice", "%s heard twice that %s is online: %t", p.id, who, online)
	}
	v.hear(p, online, true)
}

// maxWatched is how many users one presence:subscribe may name.
const maxWatched = 200

// watch requests the state of the friends, because a new socket knows nothing of them.
func (p *person) watch() {
	for friends := range slices.Chunk(p.friends, maxWatched) {
		p.ask("presence:subscribe", p.b.frameID(), map[string][]string{"userIds": friends}, p.watched)
	}
}

func (p *person) watched(ack []byte, err error) {
	var a struct {
		Data struct {
			Presence []struct{ UserID, Status string }
		}
	}
	if err == nil {
		err = json.Unmarshal(ack, &a)
	}
	if err != nil {
		p.b.stats.add("failed subscriptions", 1)
		return
	}
	for _, x := range a.Data.Presence {
		online := x.Status == "online"
		p.mu.Lock()
		_, known := p.seen[x.UserID]
		if !known { // an event that came before the answer is newer
			p.seen[x.UserID] = online
		}
		p.mu.Unlock()
		if v := p.b.visits[x.UserID]; v != nil && !known {
			v.hear(p, online, false)
		}
	}
}
