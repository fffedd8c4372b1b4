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
	// expiredQueue is how many expiries may wait. If it is full, the sweep finds the users.
	expiredQueue = 1 << 14
	// expiredPause is how long expiries are collected for one claim.
	expiredPause = 5 * time.Millisecond
	// nodesEvery is how often the masters of a cluster are listed.
	nodesEvery = 10 * time.Second
	// askEvery is how often a node's notify-keyspace-events is checked.
	askEvery = 2 * time.Second
	// expiredEvents are the letters that notify-keyspace-events must contain: expiries (x), published by event (E).
	expiredEvents = "Ex"
)

// listen follows the expiries of every master until ctx ends. On a cluster it follows new masters and drops old ones.
func (w *Watcher) listen(ctx context.Context) error {
	cluster, ok := w.records.rdb.(*redis.ClusterClient)
	if !ok {
		w.followExpiries(ctx, w.records.rdb)
		return nil
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	followed := map[string]context.CancelFunc{}
	for {
		masters := map[string]*redis.Client{}
		var mu sync.Mutex
		err := cluster.ForEachMaster(ctx, func(_ context.Context, c *redis.Client) error {
			mu.Lock()
			defer mu.Unlock()
			masters[c.Options().Addr] = c
			return nil
		})
		for addr, stop := range followed {
			if err == nil && masters[addr] == nil {
				stop()
				delete(followed, addr)
			}
		}
		for addr, c := range masters {
			if followed[addr] == nil {
				node, stop := context.WithCancel(ctx)
				followed[addr] = stop
				wg.Go(func() {
					_ = lifecycle.Keep(node, "listen "+addr, func(ctx context.Context) error {
						w.followExpiries(ctx, c)
						return nil
					})
				})
			}
		}
		select {
		case <-ctx.Done():
			for _, stop := range followed {
				stop()
			}
			return nil
		case <-time.After(nodesEvery):
		}
	}
}

// followExpiries subscribes to the expired keys of one node until ctx ends. The gauge follows the subscription: it is up from the
// confirmation until the subscription breaks or falls silent (TestTheGaugeOfSubscriptionsFollowsThem).
func (w *Watcher) followExpiries(ctx context.Context, node redis.UniversalClient) {
	up := false // used by the listener's goroutine only
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
			w.takeExpired(m.Payload)
		}
	}}
	defer set(false)
	g := lifecycle.NewGroup(ctx)
	g.Go("settings", func(ctx context.Context) error {
		w.requestExpiries(ctx, node)
		// The setting is checked repeatedly, because Redis may restart without it, or it may be changed.
		return lifecycle.Every(ctx, askEvery, func(ctx context.Context) { w.requestExpiries(ctx, node) })
	})
	g.Go("expiries", func(ctx context.Context) error {
		l.Run(ctx)
		return nil
	})
	_ = g.Wait()
}

// takeExpired queues the user of an expired key, if it is the key of a device.
func (w *Watcher) takeExpired(key string) {
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

// requestExpiries switches on a node's expiry events. If that is not allowed, the log advises the operator once.
func (w *Watcher) requestExpiries(ctx context.Context, node redis.UniversalClient) {
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
		w.log.Warn("redis refuses a change of its settings: set notify-keyspace-events to \""+expiredEvents+
			"\" (or add these letters to its value) in Redis's own configuration. Until then only the sweep finds users who went offline, within half a second",
			"error", err)
	}
}

// claimExpired claims users whose device keys expired, until ctx ends. Whatever it misses is left to the sweep.
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
			w.metrics.errors.Inc() // the sweep finds them
		}
		cancel()
	}
}
