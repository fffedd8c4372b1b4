package main

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
)

// kept is how many violations are listed individually; more are only counted.
const kept = 50

// violations are the broken guarantees that were found. Safe for concurrent use.
type violations struct {
	mu       sync.Mutex
	counts   map[string]int64
	examples []string
	report   func(string) // prints each of the first ones
}

func newViolations(report func(string)) *violations {
	return &violations{counts: map[string]int64{}, report: report}
}

func (v *violations) add(kind, format string, args ...any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.counts[kind]++
	if len(v.examples) < kept {
		text := kind + ": " + fmt.Sprintf(format, args...)
		v.examples = append(v.examples, text)
		v.report(text)
	}
}

// found are the violations by kind, and the first ones in words.
func (v *violations) found() (map[string]int64, []string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return maps.Clone(v.counts), slices.Clone(v.examples)
}

// conversation is what the senders know of a conversation: what must be in it.
type conversation struct {
	id      string
	members []*person
	// delivered counts messages that came to a member for the first time, live or by sync.
	delivered atomic.Int64
	// moved gets a value when each listener has one message more.
	moved chan struct{}

	mu    sync.Mutex
	acked map[int64]string // seq -> client message id
	top   int64            // the highest acknowledged seq
	base  int64            // the seq before the load's first message
	tried int64            // messages that were given to the server, acknowledged or not
}

func newConversation(id string, base int64) *conversation {
	return &conversation{id: id, base: base, top: base, acked: map[int64]string{}, moved: make(chan struct{}, 1)}
}

// try notes that a message goes to the server.
func (c *conversation) try() {
	c.mu.Lock()
	c.tried++
	c.mu.Unlock()
}

// ack notes that the server acknowledged a message.
func (c *conversation) ack(v *violations, seq int64, client string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if other, taken := c.acked[seq]; taken && other != client {
		v.add("seq given twice", "%s: seq %d was acknowledged for %s and for %s", c.id, seq, other, client)
	}
	if seq <= c.base {
		v.add("seq given twice", "%s: seq %d was acknowledged, but %d were there before", c.id, seq, c.base)
	}
	c.acked[seq] = client
	c.top = max(c.top, seq)
}

// last is the highest seq that was acknowledged.
func (c *conversation) last() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.top
}

// check holds what was acknowledged against what was tried: a seq beyond that is a message that nobody sent.
func (c *conversation) check(v *violations) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.top-c.base > c.tried {
		v.add("more than was sent", "%s: the highest seq is %d, but only %d messages were sent", c.id, c.top, c.tried)
	}
}

// checkOrder holds the seqs against the order in which one socket sent the messages, which is that of their client ids.
func (c *conversation) checkOrder(v *violations) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var last int64
	for _, seq := range slices.Sorted(maps.Keys(c.acked)) {
		sent := sendingOrder(c.acked[seq])
		if sent < last {
			v.add("reordered", "%s: seq %d is a message that was sent before the one of the seq before", c.id, seq)
		}
		last = sent
	}
}

// feed is one listener's view of one conversation. It outlives sockets: what came live on any of them or by sync counts
// once. Its owner locks it.
type feed struct {
	conversation *conversation
	who          string
	held         int64              // has all up to this seq
	ahead        map[int64]struct{} // has these too
	revision     int64              // up to which nothing is missing: where sync asks from
	live         int64              // last seq that came live on this socket, 0 before the first
	skipped      map[int64]struct{} // seqs that this socket left out
	synced       bool               // nothing that was before this socket is missing
}

func newFeed(c *conversation, who string, revision int64) *feed {
	return &feed{conversation: c, who: who, held: c.base, revision: revision}
}

// connected begins a new socket. fresh says that nothing can have been missed before it.
func (f *feed) connected(fresh bool) { f.live, f.skipped, f.synced = 0, nil, fresh }

// message notes what came live. It answers whether it is new to the listener.
func (f *feed) message(v *violations, seq, revision int64) bool {
	first := f.live == 0
	switch _, late := f.skipped[seq]; {
	case first && f.synced && seq > f.held+1:
		v.add("gap", "%s in %s: the first live message is %d after %d", f.who, f.conversation.id, seq, f.held)
	case late:
		delete(f.skipped, seq)
		v.add("out of order", "%s in %s: %d came after %d", f.who, f.conversation.id, seq, f.live)
	case !first && seq <= f.live:
		v.add("duplicate", "%s in %s: %d came twice on a socket", f.who, f.conversation.id, seq)
	case !first && seq > f.live+1:
		v.add("gap", "%s in %s: %d came after %d", f.who, f.conversation.id, seq, f.live)
		for s := f.live + 1; s < seq; s++ {
			if f.skipped == nil {
				f.skipped = map[int64]struct{}{}
			}
			f.skipped[s] = struct{}{}
		}
	}
	f.live = max(f.live, seq)
	if f.synced {
		f.revision = max(f.revision, revision)
	}
	return f.take(seq)
}

// sync notes a part of a sync answer. It answers how many messages were new to the listener.
func (f *feed) sync(v *violations, seqs []int64, revision int64, complete bool) (fresh int) {
	for _, s := range seqs {
		if f.take(s) {
			fresh++
		}
	}
	f.revision = max(f.revision, revision)
	if complete {
		f.synced = true
		if len(f.ahead) > 0 {
			v.add("gap", "%s in %s: after sync %d is missing, though later ones are there", f.who, f.conversation.id, f.held+1)
		}
	}
	return fresh
}

func (f *feed) take(seq int64) bool {
	if _, known := f.ahead[seq]; known || seq <= f.held {
		return false
	}
	if seq > f.held+1 {
		if f.ahead == nil {
			f.ahead = map[int64]struct{}{}
		}
		f.ahead[seq] = struct{}{}
		return true
	}
	f.held = seq
	for len(f.ahead) > 0 {
		if _, next := f.ahead[f.held+1]; !next {
			break
		}
		f.held++
		delete(f.ahead, f.held)
	}
	return true
}

// lacks is how many of the acknowledged messages the listener has not got.
func (f *feed) lacks() int64 {
	top := f.conversation.last()
	n := max(top-f.held, 0)
	for s := range f.ahead {
		if s <= top {
			n--
		}
	}
	return n
}
