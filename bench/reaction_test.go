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
	var send, react, crowd float64
	for range b.N {
		for range turns { // so that what else the machine does meets all
			ids := make([]string, n)
			send += s.cost(func() {
				for i := range ids {
					ids[i] = r.ask(b, r.sockets[:1], fmt.Sprintf(`{"type":"message:send","id":"1","data":{"conversationId":%q,"content":%q,"clientMessageId":%q}}`, group, text, id.New()))
				}
			})
			react += s.cost(func() {
				for _, m := range ids {
					r.ask(b, r.sockets[1:2], fmt.Sprintf(`{"type":"reaction:add","id":"1","data":{"messageId":%q,"reaction":"x"}}`, m))
				}
			})
			crowd += s.cost(func() {
				for _, m := range ids[:crowds] {
					r.ask(b, r.sockets, fmt.Sprintf(`{"type":"reaction:add","id":"1","data":{"messageId":%q,"reaction":"y"}}`, m))
				}
			})
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
	send, react, crowd = send/single, react/single, crowd/float64(turns*b.N*crowds)
	b.ReportMetric(send*1e6, "send-CPU-µs")
	b.ReportMetric(react*1e6, "reaction-CPU-µs")
	b.ReportMetric(react/send, "ratio")
	b.ReportMetric(crowd*1e6, "crowd-CPU-µs")
	b.ReportMetric(crowd/send, "crowd-in-sends")
	b.ReportMetric(0, "ns/op")
}

// cost is the CPU time of Parley and its databases while f runs, in seconds.
func (s *system) cost(f func()) float64 {
	before := s.allCPU()
	f()
	return s.allCPU() - before
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
