package realtime

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
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

// SubscriberConfig is what a Subscriber works with.
type SubscriberConfig struct {
	Redis    redis.UniversalClient
	Channels *Channels
	Hub      *Hub
	// Publisher holds back what nobody repairs while this pod hears nothing; nil for none.
	Publisher *Publisher
	// Probe hears its own notes; nil for none.
	Probe *Probe
	// Ended is called with sessions that ended, as another pod announced.
	Ended   func(sessionIDs ...string)
	Metrics *Metrics
	Tracer  *tracing.Tracer
	Log     *slog.Logger
}

// Subscriber is the pod's one connection that listens to Redis. It brings Redis to the Channels, and gives what it hears to the
// Hub.
type Subscriber struct {
	SubscriberConfig
	away *observe.Outage
	// deaf is set while the subscription was lost without a sign: others published meanwhile, and did not know.
	deaf atomic.Bool
}

// NewSubscriber makes a subscriber; its Run makes it work.
func NewSubscriber(c SubscriberConfig) *Subscriber {
	return &Subscriber{SubscriberConfig: c, away: observe.NewOutage(c.Log,
		"the subscription to redis is lost; events come by way of postgres until there is another", "redis is listened to again")}
}

// Run listens until ctx ends.
func (s *Subscriber) Run(ctx context.Context) error {
	messages := make(chan any, channelSize)
	l := &redisconn.Listener{Client: s.Redis, Last: rediskey.SessionsChannel, OnLost: s.lost, OnHeard: func(m any) {
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
	s.Channels.setDown(true)
	s.Metrics.subscriberUp.Set(0)
	if errors.Is(err, redisconn.ErrSilent) {
		s.Metrics.subscriberSilent.Inc()
		s.deaf.Store(true)
	}
	s.away.Fail(context.Background(), err)
	if s.Publisher != nil {
		s.Publisher.hold.lost(true)
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
	s.Channels.confirm(channel)
	if channel == rediskey.SessionsChannel {
		s.hears()
	}
}

// hears notes that a new connection hears everything.
func (s *Subscriber) hears() {
	s.Channels.setDown(false)
	s.Metrics.subscriberUp.Set(1)
	if s.deaf.Swap(false) {
		s.Hub.Resync()
	}
	s.away.End()
	if s.Publisher != nil {
		s.Publisher.hold.lost(false)
	}
	s.Hub.repairs.now()
	if s.Hub.watches != nil {
		s.Hub.watches.back()
	}
}

func (s *Subscriber) dispatch(channel, payload string) {
	fault.Point("subscriber.heard")
	s.Metrics.heard.Inc()
	if id, ok := rediskey.ParseConversationChannel(channel); ok {
		t := s.Hub.serving(id)
		if t == nil {
			return
		}
		e, err := wire.Decode(id, []byte(payload))
		if err != nil {
			s.Log.Warn("an event could not be read", "channel", channel, "error", err)
			return
		}
		span := s.trace(e.Type, e.TraceParent)
		defer span.End()
		if span.IsRecording() {
			span.SetAttributes(attribute.String("parley.conversation_id", id), attribute.Int64("parley.revision", e.Revision))
		}
		if s.Hub.foreign(e.Epoch) { // after the topic was looked up: one that was made since is of another history
			return
		}
		t.receive(e)
		return
	}
	if id, ok := rediskey.ParseUserChannel(channel); ok {
		n, err := wire.DecodeNotice(id, []byte(payload))
		if err != nil {
			s.Log.Warn("a notice could not be read", "channel", channel, "error", err)
			return
		}
		defer s.trace(n.Type, n.TraceParent).End()
		s.Hub.notice(n)
		return
	}
	if id, ok := rediskey.ParsePresenceChannel(channel); ok {
		s.presence(id, payload)
		return
	}
	switch {
	case channel == rediskey.SessionsChannel:
		s.Ended(strings.Split(payload, ",")...)
	case s.Probe != nil && channel == s.Probe.channel:
		s.Probe.heard(payload)
	}
}

// trace begins the span of a delivery to this pod's sockets, if it is in a trace.
func (s *Subscriber) trace(typ, parent string) trace.Span {
	if parent == "" {
		return noop.Span{}
	}
	_, span := s.Tracer.Consumer(context.Background(), "deliver "+typ, parent)
	return span
}

func (s *Subscriber) presence(userID, payload string) {
	n, err := event.DecodePresence([]byte(payload))
	if err != nil {
		s.Log.Warn("presence could not be read", "user_id", userID, "error", err)
		return
	}
	switch {
	case n.Profile != nil && s.Hub.profiles != nil:
		s.Hub.profiles.heard(*n.Profile)
	case s.Hub.watches != nil:
		s.Hub.watches.heard(userID, n)
	}
}

// change brings Redis to what is wanted.
func (s *Subscriber) change(ctx context.Context, l *redisconn.Listener, has map[string]bool) error {
	return lifecycle.Every(ctx, changeEvery, func(ctx context.Context) {
		select {
		case <-s.Channels.wake:
		case <-ctx.Done():
			return
		}
		subscribe, unsubscribe := s.Channels.diff(has)
		if len(subscribe) > 0 {
			l.Subscribe(ctx, subscribe...)
		}
		if len(unsubscribe) > 0 {
			l.Unsubscribe(ctx, unsubscribe...)
		}
	})
}
