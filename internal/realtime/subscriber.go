package realtime

import (
	"context"
	"errors"
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
	"github.com/parley-chat/parley/internal/observe"
	"github.com/parley-chat/parley/internal/realtime/wire"
	"github.com/parley-chat/parley/internal/redisconn"
	"github.com/parley-chat/parley/internal/rediskey"
	"github.com/parley-chat/parley/internal/tracing"
)

const (
	// channelSize is how many messages wait for the hub before nothing more is read from Redis, which cuts the connection when too much
	// waits for it there: the repairs heal that.
	channelSize = 1 << 14
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
	probe   *Probe // nil if none is sent
	away    *observe.Outage
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
		away: observe.NewOutage(log, "the subscription to redis is lost; events come by way of postgres until there is another",
			"redis is listened to again"),
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
	messages := make(chan any, channelSize)
	l := &redisconn.Listener{Client: s.rdb, Last: rediskey.SessionsChannel, OnLost: s.lost, OnHeard: func(m any) {
		select {
		case messages <- m:
		case <-ctx.Done():
		}
	}}
	g := lifecycle.NewGroup(ctx)
	has := map[string]bool{rediskey.SessionsChannel: true} // of the loop of changes alone
	g.Go("listener", func(ctx context.Context) error {
		l.Run(ctx)
		return nil
	})
	g.Go("subscriptions", func(ctx context.Context) error { return s.change(ctx, l, has) })
	g.Go("messages", func(ctx context.Context) error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case m := <-messages:
				s.take(m)
			}
		}
	})
	return g.Wait()
}

// lost notes that the connection to Redis ended, or could not be made. The listener makes another.
func (s *Subscriber) lost(err error) {
	s.mu.Lock()
	s.down = true
	s.mu.Unlock()
	s.metrics.subscriberUp.Set(0)
	if errors.Is(err, redisconn.ErrSilent) {
		s.metrics.subscriberSilent.Inc()
	}
	s.away.Fail(context.Background(), err)
	if s.probe != nil {
		s.probe.publisher.hold.lost(true)
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

// confirmed notes a subscription. The sessions' channel is the last one to be subscribed on a new connection: all others hold by then,
// and what was published since the connection before was lost is repaired.
func (s *Subscriber) confirmed(channel string) {
	s.mu.Lock()
	sub := s.wanted[channel]
	if sub != nil && !sub.ok {
		sub.ok = true
		close(sub.holds)
	}
	s.mu.Unlock()
	if channel == rediskey.SessionsChannel {
		s.hears()
	}
}

// hears notes that a new connection hears everything.
func (s *Subscriber) hears() {
	s.mu.Lock()
	s.down = false
	s.mu.Unlock()
	s.metrics.subscriberUp.Set(1)
	s.away.End()
	if s.probe != nil {
		s.probe.publisher.hold.lost(false)
	}
	s.hub.repairs.now()
	if s.hub.watches != nil {
		s.hub.watches.back()
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
func (s *Subscriber) change(ctx context.Context, l *redisconn.Listener, has map[string]bool) error {
	return lifecycle.Every(ctx, changeEvery, func(ctx context.Context) {
		select {
		case <-s.wake:
		case <-ctx.Done():
			return
		}
		subscribe, unsubscribe := s.diff(has)
		if len(subscribe) > 0 {
			l.Subscribe(ctx, subscribe...)
		}
		if len(unsubscribe) > 0 {
			l.Unsubscribe(ctx, unsubscribe...)
		}
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
