package realtime

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/fault"
	"github.com/parley-chat/parley/internal/lifecycle"
	"github.com/parley-chat/parley/internal/realtime/wire"
	"github.com/parley-chat/parley/internal/rediskey"
	"github.com/parley-chat/parley/internal/tracing"
)

const (
	// healthEvery is how long a silent connection is trusted.
	healthEvery = 2 * time.Second
	// channelSize is how many messages wait for the hub before go-redis waits, and in the end drops: the repairs heal that.
	channelSize = 1 << 14
	// subscribeBatch is how many channels go into one command.
	subscribeBatch = 500
	// changeEvery gathers subscriptions that come in a burst.
	changeEvery = 2 * time.Millisecond
)

// Subscriber is the pod's one connection that listens to Redis. What is wanted is added and removed at any time; a loop
// brings Redis to it.
type Subscriber struct {
	rdb     redis.UniversalClient
	log     *slog.Logger
	metrics *Metrics
	tracer  *tracing.Tracer
	hub     *Hub
	probe   *Probe // nil where none is sent
	// ended is told of sessions that ended, as another pod announced.
	ended func(sessionIDs ...string)

	mu     sync.Mutex // guards what follows
	wanted map[string]*subscription
	dirty  map[string]bool // wanted or unwanted since the last look
	down   bool
	wake   chan struct{}
}

// subscription is a channel that is wanted.
type subscription struct {
	holds chan struct{} // closed once Redis confirmed it
	ok    bool
}

// NewSubscriber makes a subscriber. ended is told of sessions that ended on another pod.
func NewSubscriber(rdb redis.UniversalClient, metrics *Metrics, tracer *tracing.Tracer, log *slog.Logger, ended func(sessionIDs ...string)) *Subscriber {
	s := &Subscriber{
		rdb: rdb, log: log, metrics: metrics, tracer: tracer, ended: ended,
		wanted: map[string]*subscription{}, dirty: map[string]bool{}, wake: make(chan struct{}, 1), down: true,
	}
	s.add(rediskey.SessionsChannel)
	return s
}

func (s *Subscriber) add(channel string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wanted[channel] == nil {
		s.wanted[channel] = &subscription{holds: make(chan struct{})}
		s.dirty[channel] = true
		s.poke()
	}
}

func (s *Subscriber) remove(channel string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wanted[channel] != nil {
		delete(s.wanted, channel)
		s.dirty[channel] = true
		s.poke()
	}
}

func (s *Subscriber) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// await waits until the channels are subscribed, or Redis is away, or the time is over.
func (s *Subscriber) await(ctx context.Context, channels []string, wait time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	for _, c := range channels {
		s.mu.Lock()
		sub := s.wanted[c]
		skip := sub == nil || sub.ok || s.down
		s.mu.Unlock()
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

// Run listens until ctx ends.
func (s *Subscriber) Run(ctx context.Context) error {
	ps := s.rdb.Subscribe(ctx)
	defer func() { _ = ps.Close() }()
	if err := ps.Subscribe(ctx, rediskey.SessionsChannel); err != nil {
		s.log.Warn("redis cannot be listened to; messages come by way of postgres until it can", "error", err)
	}
	messages := ps.ChannelWithSubscriptions(redis.WithChannelSize(channelSize), redis.WithChannelHealthCheckInterval(healthEvery))
	g := lifecycle.NewGroup(ctx)
	has := map[string]bool{rediskey.SessionsChannel: true} // of the loop of changes alone
	g.Go("subscriptions", func(ctx context.Context) error { return s.change(ctx, ps, has) })
	g.Go("messages", func(ctx context.Context) error { return s.listen(ctx, messages) })
	return g.Wait()
}

func (s *Subscriber) listen(ctx context.Context, messages <-chan any) error {
	watch := time.NewTicker(healthEvery)
	defer watch.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case m := <-messages:
			s.take(m)
		case <-watch.C:
			s.check(ctx)
		}
	}
}

// check notices that Redis went away; that it is back is noticed by the subscriptions that go-redis makes again.
func (s *Subscriber) check(ctx context.Context) {
	err := s.rdb.Ping(ctx).Err()
	s.mu.Lock()
	was := s.down
	if err != nil {
		s.down = true
	}
	s.mu.Unlock()
	if err != nil && !was && ctx.Err() == nil {
		s.log.Warn("redis went away; messages come by way of postgres until it is back", "error", err)
		s.metrics.subscriberUp.Set(0)
	}
}

func (s *Subscriber) take(m any) {
	switch m := m.(type) {
	case *redis.Subscription:
		if m.Kind == "subscribe" {
			s.confirmed(m.Channel)
		}
	case *redis.Message:
		s.dispatch(m.Channel, m.Payload)
	}
}

// confirmed notes a subscription. One that held before was lost and made again: what was told in between is repaired.
func (s *Subscriber) confirmed(channel string) {
	s.mu.Lock()
	sub := s.wanted[channel]
	if sub != nil && !sub.ok {
		sub.ok = true
		close(sub.holds)
	}
	s.mu.Unlock()
	s.hears(channel == rediskey.SessionsChannel)
}

// hears notes that Redis is heard. If it was away, or the connection is a new one, what was told in between is repaired.
func (s *Subscriber) hears(fresh bool) {
	s.mu.Lock()
	again := s.down
	s.down = false
	s.mu.Unlock()
	if again || fresh {
		s.metrics.subscriberUp.Set(1)
		s.hub.repairs.now()
		if s.hub.watches != nil {
			s.hub.watches.back()
		}
	}
}

func (s *Subscriber) dispatch(channel, payload string) {
	fault.Point("subscriber.heard")
	s.metrics.heard.Inc()
	if id, ok := rediskey.ParseConversationChannel(channel); ok {
		t := s.hub.serving(id)
		if t == nil {
			return
		}
		e, err := wire.Decode(id, []byte(payload))
		if err != nil {
			s.log.Warn("an event could not be read", "channel", channel, "error", err)
			return
		}
		span := s.trace(e.Type, e.TraceParent)
		defer span.End()
		if span.IsRecording() {
			span.SetAttributes(attribute.String("parley.conversation_id", id), attribute.Int64("parley.revision", e.Revision))
		}
		t.receive(e)
		return
	}
	if id, ok := rediskey.ParseUserChannel(channel); ok {
		n, err := wire.DecodeNotice(id, []byte(payload))
		if err != nil {
			s.log.Warn("a notice could not be read", "channel", channel, "error", err)
			return
		}
		defer s.trace(n.Type, n.TraceParent).End()
		s.hub.notice(n)
		return
	}
	if id, ok := rediskey.ParsePresenceChannel(channel); ok {
		s.presence(id, payload)
		return
	}
	switch {
	case channel == rediskey.SessionsChannel:
		s.ended(strings.Split(payload, ",")...)
	case s.probe != nil && channel == s.probe.channel:
		s.probe.heard(payload)
		s.hears(false) // check may have found Redis away after the subscriptions were made again
	}
}

// trace begins the span of a delivery to this pod's sockets, if it is in a trace.
func (s *Subscriber) trace(typ, parent string) trace.Span {
	if parent == "" {
		return noop.Span{}
	}
	_, span := s.tracer.Consumer(context.Background(), "deliver "+typ, parent)
	return span
}

func (s *Subscriber) presence(userID, payload string) {
	n, err := event.DecodePresence([]byte(payload))
	if err != nil {
		s.log.Warn("presence could not be read", "user_id", userID, "error", err)
		return
	}
	if s.hub.watches != nil {
		s.hub.watches.heard(userID, n)
	}
}

// change brings Redis to what is wanted.
func (s *Subscriber) change(ctx context.Context, ps *redis.PubSub, has map[string]bool) error {
	return lifecycle.Every(ctx, changeEvery, func(ctx context.Context) {
		select {
		case <-s.wake:
		case <-ctx.Done():
			return
		}
		subscribe, unsubscribe := s.diff(has)
		inBatches(subscribe, func(c []string) { _ = ps.Subscribe(ctx, c...) }) // go-redis keeps them, and tries again with the next connection
		inBatches(unsubscribe, func(c []string) { _ = ps.Unsubscribe(ctx, c...) })
	})
}

func (s *Subscriber) diff(has map[string]bool) (subscribe, unsubscribe []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.dirty {
		wanted := s.wanted[c] != nil
		switch {
		case wanted && !has[c]:
			subscribe = append(subscribe, c)
			has[c] = true
		case !wanted && has[c]:
			unsubscribe = append(unsubscribe, c)
			delete(has, c)
		case wanted && !s.wanted[c].ok: // unwanted and wanted again between two looks
			s.wanted[c].ok = true
			close(s.wanted[c].holds)
		}
	}
	clear(s.dirty)
	return subscribe, unsubscribe
}

func inBatches(channels []string, f func([]string)) {
	for len(channels) > 0 {
		n := min(len(channels), subscribeBatch)
		f(channels[:n])
		channels = channels[n:]
	}
}
