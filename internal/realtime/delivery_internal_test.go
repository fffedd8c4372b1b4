package realtime

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/realtime/wire"
)

// delivery is a topic with sockets that take everything at once.
type delivery struct {
	topic   *topic
	writer  *writer
	message chat.Message
}

func newDelivery(tb testing.TB, sockets int) *delivery {
	tb.Helper()
	sink, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = sink.Close() })
	raw, err := sink.SyscallConn()
	if err != nil {
		tb.Fatal(err)
	}
	h := &Hub{flushers: newFlushers(), metrics: NewMetrics(prometheus.NewRegistry()), log: slog.New(slog.DiscardHandler), born: time.Now()}
	d := &delivery{topic: &topic{id: id.New(), hub: h}, writer: newWriter()}
	for i := range sockets {
		s := &Session{Identity: Identity{UserID: fmt.Sprint(i)}, hub: h, raw: raw, state: open}
		s.out.frames = s.out.room[:0]
		d.topic.sessions = append(d.topic.sessions, s)
	}
	d.message = chat.Message{ID: id.New(), ConversationID: d.topic.id, SenderID: id.New(), Content: "hello"}
	return d
}

// next is the next message's event, committed just now.
func (d *delivery) next() *wire.Envelope {
	d.message.Revision++
	d.message.CreatedAt.Time = time.Now()
	return wire.Seal(event.MessageNew(&d.message))
}

// flush writes what waits, as a flusher does.
func (d *delivery) flush(ctx context.Context) {
	f := d.topic.hub.flushers
	f.stopped = true // when nothing is left
	f.writeTurns(ctx, d.writer)
}

func BenchmarkDelivery(b *testing.B) {
	for _, inFlight := range []int{1, 16} {
		b.Run(fmt.Sprintf("inFlight=%d", inFlight), func(b *testing.B) {
			const sockets = 1000
			d := newDelivery(b, sockets)
			events := make([]*wire.Envelope, inFlight)
			b.ReportAllocs()
			for b.Loop() {
				for i := range events {
					events[i] = d.next()
				}
				for _, e := range events {
					d.topic.order(e)
				}
				d.flush(b.Context())
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*sockets*inFlight), "ns/delivery")
		})
	}
}

// What a delivery costs is a write to the socket and no allocation. The event's own are the publisher's and the subscriber's.
func TestADeliveryAllocatesNothing(t *testing.T) {
	const sockets = 500
	d := newDelivery(t, sockets)
	d.topic.order(d.next()) // what is made once
	d.flush(t.Context())
	e := d.next()
	if n := testing.AllocsPerRun(20, func() {
		d.topic.delivered = e.Revision - 1
		d.topic.order(e)
		d.flush(t.Context())
	}); n > sockets/100 {
		t.Errorf("%.0f allocations for %d deliveries", n, sockets)
	}
}
