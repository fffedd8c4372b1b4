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
	// channelSize is how many messages may wait for the hub. Beyond that nothing is read from Redis. If Redis then cuts the connection because
	// its output buffer is too large, repairs deliver the lost events.
	channelSize = 1 << 14
	// changeEvery is how long changes of subscriptions are collected.
	changeEvery = 2 * time.Millisecond
)

// SubscriberConfig has the dependencies of a Subscriber.
type SubscriberConfig struct {
	Redis    redis.UniversalClient
	Channels *Channels
	Hub      *Hub
	// Sharding says whether sharded channels are subscribed too; nil for no.
	Sharding *redisconn.Sharding
	// Publisher is notified when the subscription is lost, so that it holds publications that are not repaired; nil for none.
	Publisher *Publisher
	// Probe receives its own messages; nil for none.
	Probe *Probe
	// Ended is called with ended sessions that another pod announced.
	Ended   func(sessionIDs ...string)
	Metrics *Metrics
	Tracer  *tracing.Tracer
	Log     *slog.Logger
}

// Subscriber is the pod's single subscription to Redis. It subscribes to the Channels and passes messages to the Hub.
type Subscriber struct {
	SubscriberConfig
	away *observe.Outage
	// incomplete is the outage of sharded channels.
	incomplete *observe.Outage
	up         upState
	// deaf is set after the subscription was dead without an error. Other pods could publish meanwhile, so they held nothing, and clients of
	// this pod have to sync.
	deaf atomic.Bool
}

// NewSubscriber makes a subscriber. It needs its Run.
func NewSubscriber(c SubscriberConfig) *Subscriber {
	return &Subscriber{
		SubscriberConfig: c,
		away: observe.NewOutage(c.Log, "the subscription to redis is lost; events are read from postgres until it is established again",
			"the subscription to redis is established again"),
		incomplete: observe.NewOutage(c.Log, "not all sharded channels are subscribed; publications go to plain ones until they are",
			"no sharded channel is missing any more"),
		up: upState{gauge: c.Metrics.subscriberUp, sharded: !c.Sharding.Used()},
	}
}

// Run receives until ctx ends.
func (s *Subscriber) Run(ctx context.Context) error {
	messages := make(chan any, channelSize)
	heard := func(m any) {
		select {
		case messages <- m:
		case <-ctx.Done():
		}
	}
	l := &redisconn.Listener{Client: s.Redis, Last: rediskey.SessionsChannel, OnLost: s.lost, OnHeard: heard}
	g := lifecycle.NewGroup(ctx)
	has := map[string]bool{rediskey.SessionsChannel: true} // used by the loop of changes only
	g.Go("listener", func(ctx context.Context) error {
		l.Run(ctx)
		return nil
	})
	var sharded *redisconn.ShardedListener
	if s.Sharding.Used() {
		sharded = s.shardedListener(heard)
		g.Go("sharded listener", func(ctx context.Context) error {
			sharded.Run(ctx)
			return nil
		})
	}
	g.Go("subscriptions", func(ctx context.Context) error { return s.change(ctx, l, sharded, has) })
	g.Go("messages", func(ctx context.Context) error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case m := <-messages:
				s.receive(m)
			}
		}
	})
	return g.Wait()
}

// lost records that the connection to Redis ended, or could not be made. The listener makes another one.
func (s *Subscriber) lost(err error) {
	s.Channels.setDown(true)
	s.up.setPlain(false)
	if errors.Is(err, redisconn.ErrSilent) {
		s.Metrics.subscriberSilent.Inc()
		s.deaf.Store(true)
	}
	s.away.Fail(context.Background(), err)
	if s.Publisher != nil {
		s.Publisher.hold.lost(true)
	}
}

func (s *Subscriber) receive(m any) {
	switch m := m.(type) {
	case *redis.Subscription:
		switch m.Kind {
		case "subscribe":
			s.confirmed(m.Channel)
		case "ssubscribe":
			s.Channels.confirm(rediskey.Unsharded(m.Channel), true)
		}
	case *redis.Message:
		s.dispatch(rediskey.Unsharded(m.Channel), m.Payload)
	}
}

// confirmed records a subscription. On a new connection the sessions' channel is subscribed last: by then all others are established, and
// the events since the loss of the previous connection are repaired.
func (s *Subscriber) confirmed(channel string) {
	s.Channels.confirm(channel, false)
	if channel == rediskey.SessionsChannel {
		s.hears()
	}
}

// hears records that a new connection has all subscriptions, and reads the changes since the previous one was lost.
func (s *Subscriber) hears() {
	s.Channels.setDown(false)
	s.up.setPlain(true)
	if s.deaf.Swap(false) {
		s.Hub.Resync()
	}
	s.away.End()
	if s.Publisher != nil {
		s.Publisher.hold.lost(false)
	}
	s.readMissed()
}

// readMissed reads changes and presence that may have been published while channels were not subscribed.
func (s *Subscriber) readMissed() {
	s.Hub.repairs.pollNow()
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
		if s.Hub.foreign(e.Epoch) { // checked after the lookup: t does not belong to a history that began after the check
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

// change subscribes and unsubscribes until Redis has the wanted channels.
func (s *Subscriber) change(ctx context.Context, l *redisconn.Listener, sharded *redisconn.ShardedListener, has map[string]bool) error {
	return lifecycle.Every(ctx, changeEvery, func(ctx context.Context) {
		select {
		case <-s.Channels.wake:
		case <-ctx.Done():
			return
		}
		subscribe, unsubscribe := s.Channels.diff(has)
		if sharded != nil {
			sharded.Subscribe(shardedChannels(subscribe)...)
			sharded.Unsubscribe(shardedChannels(unsubscribe)...)
		}
		if len(subscribe) > 0 {
			l.Subscribe(ctx, subscribe...)
		}
		if len(unsubscribe) > 0 {
			l.Unsubscribe(ctx, unsubscribe...)
		}
	})
}
