package bench

import (
	"bytes"
	"encoding/json"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/parley-chat/parley/bench/meter"
	"github.com/parley-chat/parley/internal/id"
)

// BenchmarkReaction compares in turns, in a group of 100 members who all listen, over their sockets: one member's sends; one member's
// reactions, each to another message, so that none shares a commit; and reactions of all members at once to one message.
func BenchmarkReaction(b *testing.B) {
	const members, turns, crowds = 100, 4, 10
	n := meter.Size(b, "REACTIONS", 1000) / turns
	s := start(b, 1)
	who := s.people(b, members)
	group := s.group(b, who)
	r := &reacting{sockets: s.openAll(b, who), acks: make(chan []byte, members)}
	receive(b, r.sockets, r.answer)
	var send, react, crowd used
	for range b.N {
		for range turns { // so that what else the machine does meets all
			ids := make([]string, n)
			send.add(s.cost(func() {
				for i := range ids {
					ids[i] = r.ask(b, r.sockets[:1], fmt.Sprintf(`{"type":"message:send","id":"1","data":{"conversationId":%q,"content":%q,"clientMessageId":%q}}`, group, text, id.New()))
				}
			}))
			react.add(s.cost(func() {
				for _, m := range ids {
					r.ask(b, r.sockets[1:2], fmt.Sprintf(`{"type":"reaction:add","id":"1","data":{"messageId":%q,"reaction":"x"}}`, m))
				}
			}))
			crowd.add(s.cost(func() {
				for _, m := range ids[:crowds] {
					r.ask(b, r.sockets, fmt.Sprintf(`{"type":"reaction:add","id":"1","data":{"messageId":%q,"reaction":"y"}}`, m))
				}
			}))
		}
	}
	single := float64(turns * b.N * n)
	if want := int64(single) * members; r.frames.Load() < want {
		b.Errorf("%d frames of reactions, want %d at least", r.frames.Load(), want)
	}
	var counted, stored int
	s.scan(b, `SELECT count(*), (SELECT sum((x ->> 'count')::int) FROM messages, jsonb_array_elements(reactions) x) FROM message_reactions`, &counted, &stored)
	if counted != stored || counted != turns*b.N*(n+crowds*members) {
		b.Errorf("%d reactions, %d in the messages", counted, stored)
	}
	send.report(b, "send", single)
	react.report(b, "reaction", single)
	crowd.report(b, "crowd", float64(turns*b.N*crowds))
	b.ReportMetric(react.sum()/send.sum(), "ratio")
	b.ReportMetric(crowd.sum()/float64(turns*b.N*crowds)/(send.sum()/single), "crowd-in-sends")
	b.ReportMetric(0, "ns/op")
}

// used is CPU time of Parley and its databases, in seconds.
type used struct{ api, postgres, redis float64 }

func (u *used) add(x used) {
	u.api, u.postgres, u.redis = u.api+x.api, u.postgres+x.postgres, u.redis+x.redis
}

func (u *used) sum() float64 { return u.api + u.postgres + u.redis }

// report reports what one of n cost, and each process's part.
func (u *used) report(b *testing.B, name string, n float64) {
	b.Helper()
	b.ReportMetric(u.sum()/n*1e6, name+"-CPU-µs")
	b.ReportMetric(u.api/n*1e6, name+"-api-µs")
	b.ReportMetric(u.postgres/n*1e6, name+"-postgres-µs")
	b.ReportMetric(u.redis/n*1e6, name+"-redis-µs")
}

// cost is what Parley and its databases use while f runs.
func (s *system) cost(f func()) used {
	read := func() used { return used{s.podCPU(), meter.CPU(s.pg.PID()), meter.CPU(s.redis.PID())} }
	before := read()
	f()
	after := read()
	return used{after.api - before.api, after.postgres - before.postgres, after.redis - before.redis}
}

func (s *system) scan(b *testing.B, query string, dest ...any) {
	b.Helper()
	if err := s.db.QueryRow(query).Scan(dest...); err != nil {
		b.Fatal(err)
	}
}

// reacting are the members' sockets.
type reacting struct {
	sockets []*socket
	acks    chan []byte
	frames  atomic.Int64 // of reactions
}

func (r *reacting) answer(_ *socket, payload []byte) error {
	switch {
	case bytes.HasPrefix(payload, isAck):
		r.acks <- bytes.Clone(payload)
	case bytes.HasPrefix(payload, []byte(`{"type":"error"`)):
		return fmt.Errorf("refused: %s", payload)
	case bytes.HasPrefix(payload, []byte(`{"type":"message:reacted"`)):
		r.frames.Add(1)
	}
	return nil
}

// ask has sockets send a frame each, waits for the acks, and returns the id of what the last one made.
func (r *reacting) ask(b *testing.B, sockets []*socket, frame string) string {
	b.Helper()
	for _, s := range sockets {
		if err := s.frameOf([]byte(frame)); err != nil {
			b.Fatal(err)
		}
	}
	var ack struct{ Data struct{ ID string } }
	for range sockets {
		select {
		case payload := <-r.acks:
			if err := json.Unmarshal(payload, &ack); err != nil {
				b.Fatal(err)
			}
		case <-time.After(time.Minute):
			b.Fatal("no ack")
		}
	}
	return ack.Data.ID
}
