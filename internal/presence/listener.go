package presence

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/parley-chat/parley/internal/lifecycle"
	"github.com/parley-chat/parley/internal/redisconn"
	"github.com/parley-chat/parley/internal/rediskey"
)

const (
	// expiredQueue is how many expiries wait to be looked at. The sweep finds those that come when it is full.
	expiredQueue = 1 << 14
	// expiredPause gathers expiries that come in a burst.
	expiredPause = 5 * time.Millisecond
	// nodesEvery is how often a cluster is asked for its masters.
	nodesEvery = 10 * time.Second
	// askEvery is how often a node is asked whether it publishes expiries.
	askEvery = 2 * time.Second
	// expiredEvents are what notify-keyspace-events must hold: expiries, told by the event's name.
	expiredEvents = "Ex"
)

// listen hears of expired keys from every master, until ctx ends.
func (w *Watcher) listen(ctx context.Context) error {
	cluster, ok := w.records.rdb.(*redis.ClusterClient)
	if !ok {
		w.hear(ctx, w.records.rdb)
		return nil
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	hearing := map[string]context.CancelFunc{}
	for {
		masters := map[string]*redis.Client{}
		var mu sync.Mutex
		err := cluster.ForEachMaster(ctx, func(_ context.Context, c *redis.Client) error {
			mu.Lock()
			defer mu.Unlock()
			masters[c.Options().Addr] = c
			return nil
		})
		for addr, stop := range hearing {
			if err == nil && masters[addr] == nil {
				stop()
				delete(hearing, addr)
			}
		}
		for addr, c := range masters {
			if hearing[addr] == nil {
				node, stop := context.WithCancel(ctx)
				hearing[addr] = stop
				wg.Go(func() {
					_ = lifecycle.Keep(node, "listen "+addr, func(ctx context.Context) error {
						w.hear(ctx, c)
						return nil
					})
				})
			}
		}
		select {
		case <-ctx.Done():
			for _, stop := range hearing {
				stop()
			}
			return nil
		case <-time.After(nodesEvery):
		}
	}
}

// hear hears of the expired keys of one node. The gauge follows the subscription itself: it is up from its confirmation until it breaks or
// falls silent.
func (w *Watcher) hear(ctx context.Context, node redis.UniversalClient) {
	up := false // of the listener's goroutine alone
	set := func(now bool) {
		switch {
		case now && !up:
			w.metrics.subscribed.Inc()
		case !now && up:
			w.metrics.subscribed.Dec()
		}
		up = now
	}
	l := &redisconn.Listener{Client: node, Last: rediskey.ExpiredChannel(w.db), OnLost: func(error) { set(false) }, OnHeard: func(m any) {
		switch m := m.(type) {
		case *redis.Subscription:
			set(true)
		case *redis.Message:
			w.take(m.Payload)
		}
	}}
	defer set(false)
	g := lifecycle.NewGroup(ctx)
	g.Go("settings", func(ctx context.Context) error {
		w.askForEvents(ctx, node)
		// Redis may start anew, or somebody may set it otherwise.
		return lifecycle.Every(ctx, askEvery, func(ctx context.Context) { w.askForEvents(ctx, node) })
	})
	g.Go("expiries", func(ctx context.Context) error {
		l.Run(ctx)
		return nil
	})
	_ = g.Wait()
}

// take takes a key that expired, if it is of a device.
func (w *Watcher) take(key string) {
	user, _, ok := rediskey.ParseDevice(key)
	if !ok {
		return
	}
	w.metrics.heard.Inc()
	select {
	case w.expired <- user:
	default:
		w.metrics.dropped.Inc()
	}
}

// askForEvents has a node tell of expired keys. Where that is not allowed an operator is told once what to set.
func (w *Watcher) askForEvents(ctx context.Context, node redis.UniversalClient) {
	const setting = "notify-keyspace-events"
	values, err := node.ConfigGet(ctx, setting).Result()
	has := values[setting]
	if err == nil {
		missing := has
		for _, e := range expiredEvents {
			if !strings.ContainsRune(has, e) && (e != 'x' || !strings.ContainsRune(has, 'A')) {
				missing += string(e)
			}
		}
		if missing == has {
			return
		}
		err = node.ConfigSet(ctx, setting, missing).Err()
	}
	var refused redis.Error
	if errors.As(err, &refused) && !redis.HasErrorPrefix(err, "LOADING") && !w.advised.Swap(true) {
		w.log.Warn("redis does not let its settings be changed: set notify-keyspace-events to \""+expiredEvents+
			"\" (or add those letters to what it has) in Redis's own configuration. Until then offline events come by the sweep alone, within half a second",
			"error", err)
	}
}

// claimExpired looks at users of whom a device expired, until ctx ends.
func (w *Watcher) claimExpired(ctx context.Context) error {
	for {
		var first string
		select {
		case <-ctx.Done():
			return nil
		case first = <-w.expired:
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(expiredPause):
		}
		set := map[string]bool{first: true}
		for len(set) < batchSize && len(w.expired) > 0 {
			set[<-w.expired] = true
		}
		users := make([]string, 0, len(set))
		for u := range set {
			users = append(users, u)
		}
		ctx, cancel := context.WithTimeout(ctx, sweepWait)
		if !w.settled.Load() {
			cancel()
			continue // the sweep finds them
		}
		if _, err := w.claim(ctx, users); err != nil && !errors.Is(err, errUnsettled) {
			w.metrics.errors.Inc() // the same
		}
		cancel()
	}
}
