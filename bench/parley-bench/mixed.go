package main

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	// groupsEach is how many groups a user is in on average.
	groupsEach = 3
	// typicalGroup and groupSpread are the median of the groups' sizes, and the deviation of their logarithm.
	typicalGroup = 6
	groupSpread  = 1.0
	maxGroup     = 5000
	// night is the load at the ends of the run, as a part of that at its middle; width is the bell's, as a part of the run.
	night = 0.1
	width = 0.18
)

// bell is the load at a part of the run, as a part of the highest.
func bell(at float64) float64 {
	x := (at - 0.5) / width
	return night + (1-night)*math.Exp(-x*x/2)
}

// groupSizes draws sizes until users are in groupsEach groups.
func groupSizes(users int, random *rand.Rand) (out []int) {
	for places := users * groupsEach; places > 0; {
		size := int(math.Round(typicalGroup * math.Exp(groupSpread*random.NormFloat64())))
		size = max(3, min(size, users, maxGroup))
		out = append(out, size)
		places -= size
	}
	return out
}

func prepareMixed(ctx context.Context, b *bench) error {
	random := rand.New(rand.NewPCG(1, 1)) //nolint:gosec // runs are to be alike
	var groups [][]*person
	for _, size := range groupSizes(len(b.people), random) {
		var g []*person
		for _, i := range random.Perm(len(b.people))[:size] {
			g = append(g, b.people[i])
		}
		groups = append(groups, g)
	}
	b.keepLast, b.lively = true, true
	_, err := b.made.groups(ctx, groups, 0)
	return err
}

// town is who is there.
type town struct {
	*bench
	hold context.Context
	wg   sync.WaitGroup

	mu   sync.Mutex // guards what follows
	home []*person
	here []*person
	mine map[string][]*conversation
}

func mixed(ctx context.Context, b *bench) error {
	ctx, cancel := b.lasting(ctx)
	defer cancel()
	t := &town{bench: b, hold: context.WithoutCancel(ctx), mine: map[string][]*conversation{}}
	for _, c := range b.convs {
		for _, p := range c.members {
			t.mine[p.id] = append(t.mine[p.id], c)
		}
	}
	for _, p := range b.people {
		if len(t.mine[p.id]) > 0 {
			t.home = append(t.home, p)
		}
	}
	t.wg.Go(func() { t.comeAndGo(ctx) })
	t.talk(ctx)
	t.wg.Wait()
	return nil
}

// comeAndGo has as many online as the time of day wants, and some change places.
func (t *town) comeAndGo(ctx context.Context) {
	const step = 50 * time.Millisecond
	start, all := time.Now(), float64(len(t.home))
	for pause(ctx, step) == nil {
		most := max(1, int(t.ConnectRate*step.Seconds()))
		t.mu.Lock()
		missing := int(all*bell(time.Since(start).Seconds()/t.Duration.Seconds())) - len(t.here)
		t.mu.Unlock()
		for range min(missing, most) {
			t.come(ctx)
		}
		for range min(-missing, most) {
			t.leave()
		}
		if missing == 0 {
			t.leave()
			t.come(ctx)
		}
	}
}

// takeOne takes somebody at random out of a list.
func takeOne(from *[]*person) *person {
	if len(*from) == 0 {
		return nil
	}
	i, last := rand.IntN(len(*from)), len(*from)-1
	p := (*from)[i]
	(*from)[i] = (*from)[last]
	*from = (*from)[:last]
	return p
}

// come has somebody open a socket, sync, and look at their conversations.
func (t *town) come(ctx context.Context) {
	t.mu.Lock()
	p := takeOne(&t.home)
	t.mu.Unlock()
	if p == nil {
		return
	}
	intended := time.Now()
	t.wg.Go(func() {
		err := p.open(t.hold, intended, false)
		if err != nil { // it is counted
			p.close()
		}
		t.mu.Lock()
		if err != nil {
			t.home = append(t.home, p)
		} else {
			t.here = append(t.here, p)
		}
		t.mu.Unlock()
		if err != nil {
			return
		}
		var list struct{ Data []struct{ ID string } }
		if err := p.get(ctx, "conversations", time.Now(), "/conversations?limit=20", &list); err == nil && len(list.Data) == 0 {
			t.violations.add("wrong list", "%s has no conversations, want %d", p.id, len(t.mine[p.id]))
		}
		t.countUnread(ctx, p)
	})
}

// leave has somebody close their socket, when all that they asked is answered.
func (t *town) leave() {
	t.mu.Lock()
	p := takeOne(&t.here)
	t.mu.Unlock()
	if p == nil {
		return
	}
	t.wg.Go(func() {
		for until := time.Now().Add(answerTime); p.waits() && time.Now().Before(until); {
			time.Sleep(10 * time.Millisecond)
		}
		p.close()
		t.mu.Lock()
		t.home = append(t.home, p)
		t.mu.Unlock()
	})
}

func (p *person) waits() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.pending) > 0
}

// talk sends at the rate of the hour; some read what came or react to it, fewer page back, edit, or change their own state.
func (t *town) talk(ctx context.Context) {
	const reading, paging = 0.5, 0.1 // for each message sent
	start := time.Now()
	for at := start; ; {
		rate := t.Rate * bell(at.Sub(start).Seconds()/t.Duration.Seconds())
		at = at.Add(time.Duration(rand.ExpFloat64() / rate * float64(time.Second)))
		if pause(ctx, time.Until(at)) != nil {
			return
		}
		t.mu.Lock()
		if n := len(t.here); n > 0 {
			p := t.here[rand.IntN(n)]
			p.send(t.one(p), at, nil)
			if rand.Float64() < reading {
				t.here[rand.IntN(n)].readLast()
			}
			t.doMore(ctx)
			if rand.Float64() < paging {
				p := t.here[rand.IntN(n)]
				t.wg.Go(func() { t.pageBack(ctx, p) })
			}
		}
		t.mu.Unlock()
	}
}

// one is a conversation of somebody's.
func (t *town) one(p *person) *conversation { return t.mine[p.id][rand.IntN(len(t.mine[p.id]))] }

// readLast reads the newest message of some conversation.
func (p *person) readLast() {
	newest := p.newest()
	if newest != "" {
		p.read(newest, func(error) {})
	}
}

// pageBack reads a page of some conversation, which must be one message after the other.
func (t *town) pageBack(ctx context.Context, p *person) {
	c, m := t.one(p), messages{}
	if err := p.get(ctx, "history", time.Now(), fmt.Sprintf("/conversations/%s/messages?limit=%d", c.id, page), &m); err != nil {
		return
	}
	for i, seq := range m.seqs() {
		if seq != m.Data[0].Seq-int64(i) {
			t.violations.add("wrong page", "%s in %s: %v", p.id, c.id, m.seqs())
			return
		}
	}
}
