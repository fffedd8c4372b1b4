package realtime

import (
	"context"
	"sync"
	"time"

	"github.com/parley-chat/parley/internal/rediskey"
)

// Channels is the set of Redis channels that this pod wants. The hub adds and removes channels at any time, and waits for new
// ones; the Subscriber subscribes to them. Safe for concurrent use.
type Channels struct {
	mu     sync.Mutex // guards the following fields
	wanted map[string]*subscription
	dirty  map[string]bool // added or removed since the last diff
	down   bool            // there is no connection
	wake   chan struct{}
	// sharded is set while each channel is also subscribed as a sharded one. Then both subscriptions have to be confirmed.
	sharded bool
}

// subscription is a wanted channel.
type subscription struct {
	holds          chan struct{} // closed once Redis has the subscription
	ok             bool          // whether holds is closed
	plain, sharded bool          // which of the two subscriptions Redis has confirmed
}

// NewChannels makes a set that contains the channel of ended sessions.
func NewChannels() *Channels {
	c := &Channels{wanted: map[string]*subscription{}, dirty: map[string]bool{}, wake: make(chan struct{}, 1), down: true}
	c.add(rediskey.SessionsChannel)
	return c
}

func (c *Channels) add(channel string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.wanted[channel] == nil {
		c.wanted[channel] = &subscription{holds: make(chan struct{})}
		c.dirty[channel] = true
		c.poke()
	}
}

func (c *Channels) remove(channel string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.wanted[channel] != nil {
		delete(c.wanted, channel)
		c.dirty[channel] = true
		c.poke()
	}
}

func (c *Channels) poke() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// await waits until the channels are subscribed. It gives up if Redis is unavailable, or after wait.
func (c *Channels) await(ctx context.Context, channels []string, wait time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	for _, name := range channels {
		c.mu.Lock()
		sub := c.wanted[name]
		skip := sub == nil || sub.ok || c.down
		c.mu.Unlock()
		if skip {
			continue
		}
		select {
		case <-sub.holds:
		case <-ctx.Done():
			return
		}
	}
}

// diff returns the channels to subscribe and to unsubscribe, so that Redis has the wanted ones. It updates has, the channels that Redis has.
func (c *Channels) diff(has map[string]bool) (subscribe, unsubscribe []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name := range c.dirty {
		wanted := c.wanted[name] != nil
		switch {
		case wanted && !has[name]:
			subscribe = append(subscribe, name)
			has[name] = true
		case !wanted && has[name]:
			unsubscribe = append(unsubscribe, name)
			delete(has, name)
		case wanted && !c.wanted[name].ok: // removed and added again between two calls: there will be no further confirmation
			c.wanted[name].ok = true
			close(c.wanted[name].holds)
		}
	}
	clear(c.dirty)
	return subscribe, unsubscribe
}

// confirm records that Redis has a channel, as a plain or as a sharded one.
func (c *Channels) confirm(channel string, sharded bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	sub := c.wanted[channel]
	if sub == nil {
		return
	}
	if sharded {
		sub.sharded = true
	} else {
		sub.plain = true
	}
	c.hold(channel, sub)
}

// hold releases the callers of await that wait for a channel, if all its subscriptions are confirmed. The lock is held.
func (c *Channels) hold(channel string, sub *subscription) {
	if !sub.ok && sub.plain && (sub.sharded || !c.sharded || !shardable(channel)) {
		sub.ok = true
		close(sub.holds)
	}
}

// setSharded sets whether channels are subscribed as sharded ones too.
func (c *Channels) setSharded(sharded bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sharded = sharded
	for channel, sub := range c.wanted {
		c.hold(channel, sub)
	}
}

// setDown records whether the connection to Redis is lost.
func (c *Channels) setDown(down bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.down = down
}

// shardable reports whether a channel has a corresponding sharded one. The channels that count pods have none.
func shardable(channel string) bool {
	return channel != rediskey.SessionsChannel && channel != rediskey.ShardedPodsChannel
}
