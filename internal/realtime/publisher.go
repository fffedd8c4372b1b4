package realtime

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/trace"

	"github.com/parley-chat/parley/internal/batch"
	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/fault"
	"github.com/parley-chat/parley/internal/history"
	"github.com/parley-chat/parley/internal/observe"
	"github.com/parley-chat/parley/internal/realtime/wire"
	"github.com/parley-chat/parley/internal/redisconn"
	"github.com/parley-chat/parley/internal/rediskey"
	"github.com/parley-chat/parley/internal/tracing"
)

const (
	// publishQueue is how many publications may wait for Redis. Further ones are dropped and counted; pods repair events.
	publishQueue = 1 << 13
	publishBatch = 256
	publishWait  = 2 * time.Second
)

type publication struct {
	channel string
	payload []byte
	typ     string
	trace   string // the trace that it belongs to, "" for none
	keep    bool   // it is not repaired, so it is held while Redis is unavailable
}

// Publisher publishes to all pods. Its methods never wait for Redis and may be called from any goroutine: publications are queued, in
// order, and sent to Redis in pipelines.
type Publisher struct {
	rdb     redis.UniversalClient
	tracer  *tracing.Tracer
	queue   *batch.Batcher[publication]
	metrics *Metrics
	failing *observe.Outage
	hold    hold
	history *history.Watch // nil if the database has no epoch
	// sharding decides between plain and sharded channels; nil for plain ones.
	sharding *redisconn.Sharding
}

// PublisherConfig is what a Publisher works with.
type PublisherConfig struct {
	Redis redis.UniversalClient
	// History makes events carry the epoch of the database; nil if it has none.
	History *history.Watch
	// Sharding makes the publisher use sharded channels while all pods hear them; nil for plain channels only.
	Sharding *redisconn.Sharding
	Metrics  *Metrics
	Tracer   *tracing.Tracer
	Log      *slog.Logger
}

// NewPublisher makes a publisher. It needs its Run.
func NewPublisher(c PublisherConfig) *Publisher {
	p := &Publisher{rdb: c.Redis, history: c.History, sharding: c.Sharding, tracer: c.Tracer, metrics: c.Metrics,
		failing: observe.NewOutage(c.Log, "events cannot be published to redis; the pods read them from postgres", "events are published to redis again")}
	p.queue = batch.New(publishQueue, publishBatch, p.publish)
	return p
}

// epoch returns the present epoch, and when it began in microseconds since 1970.
func (p *Publisher) epoch() (id string, since int64) {
	if p.history == nil {
		return "", 0
	}
	e := p.history.Current()
	return e.ID, e.Since.UnixMicro()
}

// Publish publishes events of conversations, and for each added user a notice with the join to the pods of that user.
func (p *Publisher) Publish(events ...*event.Event) {
	epoch, since := p.epoch()
	for _, e := range events {
		if e.CommittedAt > 0 && e.CommittedAt < since {
			continue // it was committed in the previous history, and may be lost; if it is not, pods read it from Postgres
		}
		p.queueUp(publication{channel: rediskey.ConversationChannel(e.ConversationID), payload: wire.Encode(e, epoch), typ: e.Type, trace: e.TraceParent})
		for _, u := range e.Added {
			n := &event.Notice{Join: &event.Join{ConversationID: e.ConversationID, Revision: e.Revision}}
			p.keep(rediskey.UserChannel(u), wire.EncodeNotice(n, epoch))
		}
	}
}

// Notify publishes a notice to the pods of one user.
func (p *Publisher) Notify(n *event.Notice) {
	p.queueUp(publication{channel: rediskey.UserChannel(n.UserID), payload: wire.EncodeNotice(n, ""), typ: n.Type, trace: n.TraceParent, keep: true})
}

// SessionsEnded publishes the ids of ended sessions to all pods.
func (p *Publisher) SessionsEnded(_ context.Context, sessionIDs []string) {
	if len(sessionIDs) > 0 {
		p.keep(rediskey.SessionsChannel, []byte(strings.Join(sessionIDs, ",")))
	}
}

// add queues a publication that may get lost.
func (p *Publisher) add(channel string, payload []byte) {
	p.queueUp(publication{channel: channel, payload: payload})
}

// keep queues a publication that is not repaired.
func (p *Publisher) keep(channel string, payload []byte) {
	p.queueUp(publication{channel: channel, payload: payload, keep: true})
}

func (p *Publisher) queueUp(x publication) {
	if !p.queue.Offer(x) {
		p.metrics.publishDropped.Inc()
	}
}

// Run publishes until ctx ends, and then the publications that are queued.
func (p *Publisher) Run(ctx context.Context) error {
	p.queue.Run(ctx)
	return nil
}

// publish sends held publications and then a batch. While Redis is unavailable it holds the publications that are not repaired, and still tries
// to send the others. Because the probe publishes every second, it notices when Redis is available again.
func (p *Publisher) publish(batch []publication) {
	if !p.flowing() {
		p.metrics.publishDropped.Add(float64(p.hold.keep(batch)))
		batch = slices.DeleteFunc(batch, func(x publication) bool { return x.keep })
	}
	for len(p.hold.held) > 0 && p.flowing() {
		n := min(len(p.hold.held), publishBatch)
		failed := p.send(p.hold.held[:n])
		p.hold.held = slices.Concat(failed, p.hold.held[n:])
		if len(failed) > 0 {
			break
		}
	}
	if len(batch) > 0 {
		p.metrics.publishDropped.Add(float64(p.hold.keep(p.send(batch))))
	}
	p.metrics.publishQueue.Set(float64(p.queue.Len() + len(p.hold.held)))
}

func (p *Publisher) flowing() bool { return p.hold.flowing(p.sharding.On()) }

// send publishes in one pipeline, on a cluster in one for each node. It returns the publications that Redis did not accept.
func (p *Publisher) send(batch []publication) (failed []publication) {
	ctx, cancel := context.WithTimeout(context.Background(), publishWait)
	defer cancel()
	fault.Point("publisher.send")
	ctx, done := p.trace(ctx, batch)
	defer done()
	sharded := p.sharding.On()
	replies, err := p.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for _, x := range batch {
			if sharded && shardable(x.channel) {
				pipe.SPublish(ctx, rediskey.Sharded(x.channel), x.payload)
			} else {
				pipe.Publish(ctx, x.channel, x.payload)
			}
		}
		return nil
	})
	if err != nil {
		for i, x := range batch {
			if i >= len(replies) || replies[i].Err() != nil {
				failed = append(failed, x)
			}
		}
		p.sharding.Refused(err)
	}
	p.metrics.publishErrors.Add(float64(len(failed)))
	p.metrics.published.Add(float64(len(batch) - len(failed)))
	p.failing.Note(err)
	p.hold.failed(err != nil)
	return failed
}

// trace begins a span for each event that has a trace. The span of the pipeline is a child of the first one.
func (p *Publisher) trace(ctx context.Context, batch []publication) (first context.Context, done func()) {
	first = ctx
	var spans []trace.Span
	for _, x := range batch {
		if x.trace == "" {
			continue
		}
		in, span := p.tracer.Producer(ctx, "publish "+x.typ, x.trace)
		if len(spans) == 0 {
			first = in
		}
		spans = append(spans, span)
	}
	return first, func() {
		for _, s := range spans {
			s.End()
		}
	}
}
