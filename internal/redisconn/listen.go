package redisconn

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/parley-chat/parley/internal/backoff"
)

const (
	// pingEvery is how often a subscription pings Redis through its own connection. silentFor is how long it may receive nothing at all
	// before it is replaced.
	pingEvery = 1 * time.Second
	silentFor = 4 * time.Second
	// subscribeBatch is how many channels go into one command.
	subscribeBatch = 500
)

// listenPauses are the pauses before a failed subscription is tried again.
var listenPauses = backoff.Policy{First: 100 * time.Millisecond, Most: time.Second}

// ErrSilent is the error of a subscription that received nothing for too long: neither messages nor replies to its pings.
var ErrSilent = errors.New("the subscription received nothing, not even replies to its pings")

// Listener is a subscription to channels that outlives its connections. One that breaks, or falls silent without breaking, as behind a
// NAT that forgot it, is closed and replaced by a new one with all channels.
//
//	           subscribed          error, or silent for 4 s
//	connecting ──────────► hearing ────────────────────────┐
//	    ▲                  OnHeard                         │ OnLost
//	    └──────────────────────────────────────────────────┘
//
// Redis keeps nothing for a disconnected subscriber: messages published between OnLost, or shortly before it, and the next
// confirmation of the channel is lost.
type Listener struct {
	// Client makes the connections.
	Client redis.UniversalClient
	// Last is a channel that is always subscribed, after all others: its confirmation says that all hold on this connection. A listener of
	// a ShardedListener has none.
	Last string
	// Pattern, if not empty, is subscribed instead of channels.
	Pattern string
	// OnHeard is called with confirmations (*redis.Subscription) and messages (*redis.Message), OnLost with the error that ended a connection, or
	// could not be made. Both are called by Run's goroutine. While OnHeard works nothing is read.
	OnHeard func(m any)
	OnLost  func(err error)
	// refused is set on a node of a cluster whose channels are sharded. It is called with the error of a command that concerns a slot, such as
	// MOVED; the connection stays.
	refused func(err error)

	mu       sync.Mutex // guards the following fields; held while commands are written, so that they are written in the order of the calls
	channels map[string]bool
	ps       *redis.PubSub // nil while there is no connection
}

// Subscribe adds channels. It may be called at any time; it returns when the command is written, or at once if there is no connection.
func (l *Listener) Subscribe(ctx context.Context, channels ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.channels == nil {
		l.channels = map[string]bool{}
	}
	for _, c := range channels {
		l.channels[c] = true
	}
	if l.ps != nil {
		_ = l.subscribe(ctx, l.ps, channels) // that the connection is broken is found by Run
	}
}

// Unsubscribe removes channels, like Subscribe.
func (l *Listener) Unsubscribe(ctx context.Context, channels ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range channels {
		delete(l.channels, c)
	}
	if l.ps == nil {
		return
	}
	command, batch := l.ps.Unsubscribe, subscribeBatch
	if l.sharded() {
		command, batch = l.ps.SUnsubscribe, 1
	}
	for part := range slices.Chunk(channels, batch) {
		if command(ctx, part...) != nil {
			return // as in Subscribe
		}
	}
}

func (l *Listener) sharded() bool { return l.refused != nil }

// subscribe writes the commands. Each sharded channel has one of its own, because those of different slots may not share one.
func (l *Listener) subscribe(ctx context.Context, ps *redis.PubSub, channels []string) error {
	command, batch := ps.Subscribe, subscribeBatch
	if l.sharded() {
		command, batch = ps.SSubscribe, 1
	}
	for part := range slices.Chunk(channels, batch) {
		if err := command(ctx, part...); err != nil {
			return fmt.Errorf("subscribe: %w", err)
		}
	}
	return nil
}

// Run listens until ctx ends.
func (l *Listener) Run(ctx context.Context) {
	for failures := 0; ctx.Err() == nil; {
		heard, err := l.listen(ctx)
		if ctx.Err() != nil {
			return
		}
		l.OnLost(err)
		if heard {
			failures = 0
		}
		failures++
		backoff.Wait(ctx, listenPauses.After(failures))
	}
}

// listen makes a connection and receives from it until it ends. heard reports whether anything arrived.
func (l *Listener) listen(ctx context.Context) (heard bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	client, done := l.connection()
	defer done()
	ps := client.Subscribe(ctx)
	closed := context.AfterFunc(ctx, func() { _ = ps.Close() }) // which ends a Receive
	defer func() {
		closed()
		_ = ps.Close()
	}()
	if err := l.subscribeAll(ctx, ps); err != nil {
		return false, err
	}
	defer func() {
		l.mu.Lock()
		l.ps = nil
		l.mu.Unlock()
	}()
	var pings sync.WaitGroup
	defer pings.Wait()
	defer cancel()
	pings.Go(func() { keepPinging(ctx, ps) })
	for {
		m, err := ps.ReceiveTimeout(ctx, silentFor)
		if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
			return heard, ErrSilent
		}
		if l.sharded() && concernsSlot(err) {
			l.refused(err)
			continue
		}
		if err != nil {
			return heard, fmt.Errorf("listen to redis: %w", err)
		}
		heard = true
		if _, pong := m.(*redis.Pong); !pong {
			l.OnHeard(m)
		}
	}
}

// subscribeAll subscribes a new connection to all channels, the last one last.
func (l *Listener) subscribeAll(ctx context.Context, ps *redis.PubSub) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	channels := make([]string, 0, len(l.channels)+1)
	for c := range l.channels {
		if c != l.Last {
			channels = append(channels, c)
		}
	}
	if l.Last != "" {
		channels = append(channels, l.Last)
	}
	var err error
	if l.Pattern != "" {
		err = ps.PSubscribe(ctx, l.Pattern)
	} else {
		err = l.subscribe(ctx, ps, channels)
	}
	if err == nil {
		l.ps = ps
	}
	return err
}

// keepPinging pings Redis. The replies come through the subscription, between its messages.
func keepPinging(ctx context.Context, ps *redis.PubSub) {
	t := time.NewTicker(pingEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			_ = ps.Ping(ctx)
		}
	}
}
