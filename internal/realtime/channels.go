package realtime

import (
	"context"
	"sync"
	"time"

	"github.com/parley-chat/parley/internal/rediskey"
)

// Channels are the channels of Redis that this pod wants to hear. The hub adds and removes them at any time, and waits for new
// ones; the Subscriber brings Redis to them.
type Channels struct {
	mu     sync.Mutex // guards what follows
	wanted map[string]*subscription
	dirty  map[string]bool // wanted or unwanted since the last diff
	down   bool            // there is no connection that hears
	wake   chan struct{}
}

// subscription is a channel that is wanted.
type subscription struct {
	holds chan struct{} // closed once Redis confirmed it
	ok    bool
}

// NewChannels makes the set, with the channel of ended sessions in it.
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

// await waits until the channels are subscribed, or Redis is unavailable, or the time is over.
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

// diff returns what Redis is to be told so that it has the channels that are wanted. has is what it has, and changed to that.
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
		case wanted && !c.wanted[name].ok: // unwanted and wanted again between two looks
			c.wanted[name].ok = true
			close(c.wanted[name].holds)
		}
	}
	clear(c.dirty)
	return subscribe, unsubscribe
}

// confirm notes that Redis has a channel.
func (c *Channels) confirm(channel string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if sub := c.wanted[channel]; sub != nil && !sub.ok {
		sub.ok = true
		close(sub.holds)
	}
}

// setDown notes whether there is a connection that hears.
func (c *Channels) setDown(down bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.down = down
}
