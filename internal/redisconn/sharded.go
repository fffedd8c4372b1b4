package redisconn

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// ownersEvery is how often the owners of all channels' slots are compared with the nodes that they are subscribed at.
	ownersEvery = 1 * time.Second
	// askAgain is how long a confirmation may take before the channel is subscribed once more.
	askAgain = 1 * time.Second
	// mostDoubts is how often in a row another node is said to own the slot of a confirmed channel before the channel moves. While the nodes
	// agree on a new owner some still name the old one; the new owner would be left for nothing.
	mostDoubts = 3
	// placePause is the pause after which channels are subscribed again that a node refused, or dropped. It grows up to placePauseMost.
	placePause     = 25 * time.Millisecond
	placePauseMost = 1 * time.Second
)

// ShardedListener is a subscription to sharded channels of a cluster: each at the master that owns its slot, over one connection to each such
// master. It outlives connections, failovers and slots that move:
//
//	                 the owner is known          confirmed
//	pending ───────────────────► asked ──────────────────────► subscribed
//	   ▲   refused, or nothing for 1 s │                            │
//	   └───────────────────────────────┘                            │
//	   ▲       the node dropped it (sunsubscribe), its slot has     │
//	   └────── another owner, or the connection ended ──────────────┘
//
// A node drops the channels of a slot that it gives away. Messages that are published between that, or the end of a connection, and the
// next confirmation are lost, as with Listener.
type ShardedListener struct {
	// Client makes the connections.
	Client *redis.ClusterClient
	// OnHeard is called with confirmations (*redis.Subscription) and messages (*redis.Message); while it works nothing is read from that node.
	// OnLost is called with the error that ended, or prevented, a connection, and for channels that a node dropped. OnWhole is called
	// when all channels are subscribed for the first time, and again after OnLost, with those that were not meanwhile. OnUnsupported is called once, if the cluster
	// refuses sharded channels; nothing is subscribed from then on. All are called by several goroutines.
	OnHeard       func(m any)
	OnLost        func(err error)
	OnWhole       func(gaps []Gap)
	OnUnsupported func(err error)

	calls    sync.Mutex // held during OnLost and OnWhole, so that the later of them is right; taken before mu
	mu       sync.Mutex // guards the following fields; not held during calls and commands
	channels map[string]*shardedChannel
	pending  map[string]bool // wanted, and not confirmed
	dropped  map[string]bool // unwanted since Run looked
	gaps     map[string]Gap  // confirmed once, and not since
	healed   []Gap
	broken   bool // OnWhole was not called since the beginning, or since OnLost was
	pause    time.Duration

	nodes       map[string]*shardNode // by address; used by Run's goroutine only
	wake        chan struct{}
	unsupported atomic.Bool
}

// shardedChannel is a wanted channel.
type shardedChannel struct {
	node      string    // the address of the node that was asked, "" for none
	asked     time.Time // when
	confirmed bool
	doubts    int // how often in a row another node was said to own its slot
}

// shardNode is a connection to a master.
type shardNode struct {
	listener *Listener
	stop     context.CancelFunc
	ended    chan struct{}
}

// NewShardedListener makes a listener without channels. Set its functions before Run.
func NewShardedListener(c *redis.ClusterClient) *ShardedListener {
	return &ShardedListener{
		Client: c, channels: map[string]*shardedChannel{}, pending: map[string]bool{}, dropped: map[string]bool{}, gaps: map[string]Gap{},
		nodes: map[string]*shardNode{}, pause: placePause, wake: make(chan struct{}, 1), broken: true,
	}
}

// Subscribe adds channels. It may be called at any time and does not wait.
func (l *ShardedListener) Subscribe(channels ...string) {
	if l.unsupported.Load() { // nothing would take them out again
		return
	}
	l.mu.Lock()
	for _, name := range channels {
		c := l.channels[name]
		switch {
		case c == nil:
			l.channels[name] = &shardedChannel{}
			l.pending[name] = true
		case l.dropped[name]: // it is subscribed still; once more, for the confirmation
			delete(l.dropped, name)
			c.confirmed, c.asked = false, time.Time{}
			l.pending[name] = true
		}
	}
	l.mu.Unlock()
	l.poke()
}

// Unsubscribe removes channels, like Subscribe.
func (l *ShardedListener) Unsubscribe(channels ...string) {
	if l.unsupported.Load() {
		return
	}
	l.mu.Lock()
	for _, c := range channels {
		l.dropped[c] = true
		delete(l.pending, c)
		delete(l.gaps, c)
	}
	l.mu.Unlock()
	l.poke()
}

func (l *ShardedListener) poke() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// pokeSoon wakes Run after a pause that grows until a channel is confirmed. The lock is held.
func (l *ShardedListener) pokeSoon() {
	time.AfterFunc(l.pause, l.poke)
	l.pause = min(2*l.pause, placePauseMost)
}

// Run listens until ctx ends.
func (l *ShardedListener) Run(ctx context.Context) {
	defer l.stopNodes(func(string) bool { return true })
	tick := time.NewTicker(ownersEvery)
	defer tick.Stop()
	for !l.unsupported.Load() {
		all := false
		select {
		case <-ctx.Done():
			return
		case <-l.wake:
		case <-tick.C:
			all = true
		}
		if l.unsupported.Load() {
			break
		}
		l.place(ctx, all)
		l.settle()
	}
	l.stopNodes(func(string) bool { return true })
	<-ctx.Done()
}

// place subscribes pending channels at the owners of their slots, and all channels whose slots have other owners now.
func (l *ShardedListener) place(ctx context.Context, all bool) {
	drop := l.takeDropped()
	for node, channels := range drop {
		if n := l.nodes[node]; n != nil {
			n.listener.Unsubscribe(ctx, channels...)
		}
	}
	owners := map[string]*redis.Client{}
	for _, c := range l.names(all) {
		owner, err := l.Client.MasterForKey(ctx, c)
		if err != nil {
			if ctx.Err() == nil {
				l.lost("", err)
			}
			return
		}
		owners[c] = owner
	}
	leave, enter, clients := l.assign(owners)
	for node, channels := range leave {
		if n := l.nodes[node]; n != nil {
			n.listener.Unsubscribe(ctx, channels...)
		}
	}
	for node, channels := range enter {
		l.node(ctx, node, clients[node]).listener.Subscribe(ctx, channels...)
	}
	if all {
		l.stopUnused()
	}
}

// takeDropped forgets unwanted channels and returns them by node.
func (l *ShardedListener) takeDropped() map[string][]string {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := map[string][]string{}
	for name := range l.dropped {
		c := l.channels[name]
		if c == nil {
			continue
		}
		if c.node != "" {
			out[c.node] = append(out[c.node], name)
		}
		delete(l.channels, name)
	}
	clear(l.dropped)
	return out
}

func (l *ShardedListener) names(all bool) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]string, 0, len(l.pending))
	if !all {
		for name := range l.pending {
			out = append(out, name)
		}
		return out
	}
	for name := range l.channels {
		out = append(out, name)
	}
	return out
}

// assign records where channels are asked for, and returns which are to be unsubscribed and subscribed, by node.
func (l *ShardedListener) assign(owners map[string]*redis.Client) (leave, enter map[string][]string, clients map[string]*redis.Client) {
	l.mu.Lock()
	defer l.mu.Unlock()
	leave, enter, clients = map[string][]string{}, map[string][]string{}, map[string]*redis.Client{}
	now := time.Now()
	for name, owner := range owners {
		c, addr := l.channels[name], owner.Options().Addr
		if c == nil || c.stays(addr, now) {
			continue
		}
		if c.node != "" && c.node != addr {
			leave[c.node] = append(leave[c.node], name)
			l.open(name, c, Gap{Channel: name, Moved: true})
		}
		c.node, c.asked, c.doubts = addr, now, 0
		enter[addr], clients[addr] = append(enter[addr], name), owner
	}
	return leave, enter, clients
}

// stays reports whether there is nothing to do for a channel whose slot is owned by that node.
func (c *shardedChannel) stays(owner string, now time.Time) bool {
	switch {
	case c.node == owner:
		c.doubts = 0
		return c.confirmed || now.Sub(c.asked) < askAgain
	case c.confirmed:
		c.doubts++
		return c.doubts < mostDoubts
	}
	return false
}

// open records that a channel is not subscribed anymore. The lock is held.
func (l *ShardedListener) open(name string, c *shardedChannel, g Gap) {
	if c.confirmed {
		l.gaps[name] = g
		l.broken = true
	}
	c.confirmed = false
	l.pending[name] = true
}

// node returns the connection to a node, and makes it if there is none. Only Run's goroutine calls it.
func (l *ShardedListener) node(ctx context.Context, addr string, client *redis.Client) *shardNode {
	if n := l.nodes[addr]; n != nil {
		return n
	}
	ctx, stop := context.WithCancel(ctx)
	n := &shardNode{stop: stop, ended: make(chan struct{})}
	n.listener = &Listener{
		Client: client, OnHeard: func(m any) { l.heard(addr, m) }, OnLost: func(err error) { l.lost(addr, err) },
		refused: func(err error) { l.refused(addr, err) },
	}
	l.nodes[addr] = n
	go func() {
		defer close(n.ended)
		n.listener.Run(ctx)
	}()
	return n
}

// stopUnused ends the connections to nodes that no channel is asked for at.
func (l *ShardedListener) stopUnused() {
	l.mu.Lock()
	used := map[string]bool{}
	for _, c := range l.channels {
		used[c.node] = true
	}
	l.mu.Unlock()
	l.stopNodes(func(addr string) bool { return !used[addr] })
}

func (l *ShardedListener) stopNodes(which func(addr string) bool) {
	for addr, n := range l.nodes {
		if which(addr) {
			n.stop()
			<-n.ended
			delete(l.nodes, addr)
		}
	}
}

// heard processes what a node sent.
func (l *ShardedListener) heard(addr string, m any) {
	sub, ok := m.(*redis.Subscription)
	if !ok {
		l.OnHeard(m)
		return
	}
	if l.confirm(addr, sub) {
		l.OnHeard(m)
	}
	l.settle()
}

// confirm processes a confirmation of a node. It returns false if nothing depends on it anymore.
func (l *ShardedListener) confirm(addr string, sub *redis.Subscription) bool {
	l.calls.Lock()
	defer l.calls.Unlock()
	l.mu.Lock()
	c := l.channels[sub.Channel]
	mine := c != nil && c.node == addr && !l.dropped[sub.Channel]
	lost := false
	switch {
	case mine && sub.Kind == "ssubscribe":
		c.confirmed = true
		delete(l.pending, sub.Channel)
		if g, was := l.gaps[sub.Channel]; was {
			delete(l.gaps, sub.Channel)
			g.Cut = g.from == addr && !g.Silent
			l.healed = append(l.healed, g)
		}
		l.pause = placePause
	case mine: // the node gave the slot away, or this is the late reply to an earlier Unsubscribe
		lost = c.confirmed
		l.open(sub.Channel, c, Gap{Channel: sub.Channel, Moved: true})
		c.node = ""
		l.pokeSoon()
	}
	l.mu.Unlock()
	if lost {
		l.Client.ReloadState(context.Background())
		l.OnLost(errDropped)
	}
	return mine
}

// lost records that the connection to a node ended, or could not be made.
func (l *ShardedListener) lost(addr string, err error) {
	if IsUnsupported(err) {
		if !l.unsupported.Swap(true) {
			l.OnUnsupported(err)
			l.poke()
		}
		return
	}
	if l.unsupported.Load() {
		return
	}
	l.Client.ReloadState(context.Background())
	l.calls.Lock()
	defer l.calls.Unlock()
	l.mu.Lock()
	l.broken = true
	for name, c := range l.channels {
		if addr != "" && c.node == addr {
			l.open(name, c, Gap{Channel: name, Silent: errors.Is(err, ErrSilent), from: addr})
		}
	}
	l.pokeSoon()
	l.mu.Unlock()
	l.OnLost(err)
}

// refused has the channels subscribed again that a node has not confirmed.
func (l *ShardedListener) refused(addr string, _ error) {
	l.Client.ReloadState(context.Background())
	l.mu.Lock()
	defer l.mu.Unlock()
	for name := range l.pending {
		if c := l.channels[name]; c != nil && c.node == addr {
			c.asked = time.Time{}
		}
	}
	l.pokeSoon()
}

// settle calls OnWhole if everything is subscribed again.
func (l *ShardedListener) settle() {
	l.calls.Lock()
	defer l.calls.Unlock()
	l.mu.Lock()
	whole := l.broken && len(l.pending) == 0
	var gaps []Gap
	if whole {
		l.broken = false
		gaps, l.healed = l.healed, nil
	}
	l.mu.Unlock()
	if whole {
		l.OnWhole(gaps)
	}
}
