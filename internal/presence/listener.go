package presence

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/parley-chat/parley/internal/lifecycle"
	"github.com/parley-chat/parley/internal/rediskey"
)

const (
	// expiredQueue is how many expiries wait to be looked at. The sweep finds those that come when it is full.
	expiredQueue = 1 << 14
	// expiredPause gathers expiries that come in a burst.
	expiredPause = 5 * time.Millisecond
	// nodesEvery is how often a cluster is asked for its masters.
	nodesEvery = 10 * time.Second
	// expiredHealth is how long a silent subscription is trusted, expiredBuffer what go-redis keeps before it waits.
	expiredHealth = 2 * time.Second
	expiredBuffer = 1 << 13
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

// hear hears of the expired keys of one node.
func (w *Watcher) hear(ctx context.Context, node redis.UniversalClient) {
	ps := node.Subscribe(ctx)
	defer func() { _ = ps.Close() }()
	_ = ps.Subscribe(ctx, rediskey.ExpiredChannel(w.db)) // go-redis keeps it, and tries again
	messages := ps.ChannelWithSubscriptions(redis.WithChannelSize(expiredBuffer), redis.WithChannelHealthCheckInterval(expiredHealth))
	up := false
	set := func(now bool) {
		switch {
		case now && !up:
			w.metrics.subscribed.Inc()
		case !now && up:
			w.metrics.subscribed.Dec()
		}
		up = now
	}
	defer set(false)
	watch := time.NewTicker(expiredHealth)
	defer watch.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-watch.C:
			if node.Ping(ctx).Err() != nil {
				set(false)
			} else {
				w.askForEvents(ctx, node) // Redis may have started anew, or somebody set it otherwise
			}
		case m := <-messages:
			switch m := m.(type) {
			case *redis.Subscription:
				set(true)
				w.askForEvents(ctx, node)
			case *redis.Message:
				w.take(m.Payload)
			}
		}
	}
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
		if _, err := w.claim(ctx, users); err != nil {
			w.metrics.errors.Inc() // the sweep finds them
		}
		cancel()
	}
}
