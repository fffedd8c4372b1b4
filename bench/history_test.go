package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/parley-chat/parley/bench/meter"
	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/cursor"
	"github.com/parley-chat/parley/internal/message"
	"github.com/parley-chat/parley/internal/postgres"
)

const pageSize = 50

// BenchmarkHistory reads the first page of a long conversation, and one at a depth of a million messages.
func BenchmarkHistory(b *testing.B) {
	depth := meter.Size(b, "DEPTH", 1_000_000)
	s := start(b, 1)
	who := s.people(b, 2)
	g := s.group(b, who)
	s.messages(b, g, who[0].id, depth+2*pageSize)
	var deep cursor.Position
	if err := s.db.QueryRow(`SELECT created_at, id FROM messages WHERE conversation_id = $1 AND seq = $2`, g, 2*pageSize).Scan(&deep.Time, &deep.ID); err != nil {
		b.Fatal(err)
	}
	for _, at := range []struct {
		name   string
		before *cursor.Position
		newest int64 // the seq that the page must begin with
	}{{"page=1", nil, int64(depth + 2*pageSize)}, {fmt.Sprintf("depth=%d", depth), &deep, 2*pageSize - 1}} {
		b.Run(at.name+"/postgres", func(b *testing.B) { s.readPages(b, g, who[0], at.before, at.newest) })
		b.Run(at.name+"/rest", func(b *testing.B) { s.getPages(b, g, who[0], at.before, at.newest) })
	}
}

// messages fills a conversation.
func (s *system) messages(b *testing.B, conversation, sender string, n int) {
	b.Helper()
	s.exec(b, `INSERT INTO messages (id, conversation_id, seq, revision, sender_id, content, created_at)
		SELECT overlay(gen_random_uuid()::text PLACING '7' FROM 15 FOR 1)::uuid, $1, n, n + 1, $2, $4, now() - interval '60 days' + n * interval '1 second' FROM generate_series(1, $3::bigint) n`,
		conversation, sender, n, text)
	s.exec(b, `UPDATE conversations SET last_seq = m.seq, revision = m.revision, last_message_id = m.id, last_message_at = m.created_at
		FROM messages m WHERE m.conversation_id = $1 AND m.seq = $2 AND conversations.id = $1`, conversation, n)
	s.exec(b, `VACUUM ANALYZE messages`)
}

// readPages asks as the api does, without it.
func (s *system) readPages(b *testing.B, conversation string, who person, before *cursor.Position, newest int64) {
	db, err := postgres.Open(postgres.Config{URL: s.pg.URL(), MaxConns: 1, Application: "bench"})
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	service := message.NewService(db, message.NewStore(db), nil, nil, nil)
	took := make([]time.Duration, 0, b.N)
	for b.Loop() {
		start := time.Now()
		page, err := service.History(context.Background(), conversation, who.id, before, pageSize)
		took = append(took, time.Since(start))
		if err != nil {
			b.Fatal(err)
		}
		checkPage(b, page.Messages, newest)
	}
	report(b, took)
}

func (s *system) getPages(b *testing.B, conversation string, who person, before *cursor.Position, newest int64) {
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.pods[0].port))
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	path := fmt.Sprintf("/api/conversations/%s/messages?limit=%d", conversation, pageSize)
	if before != nil {
		path += "&cursor=" + url.QueryEscape(cursor.Encode(*before))
	}
	request := []byte("GET " + path + " HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer " + who.token + "\r\n\r\n")
	r := bufio.NewReader(conn)
	took := make([]time.Duration, 0, b.N)
	api := meter.CPU(s.pods[0].PID())
	for b.Loop() {
		start := time.Now()
		if _, err := conn.Write(request); err != nil {
			b.Fatal(err)
		}
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			b.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		took = append(took, time.Since(start))
		if err != nil || res.StatusCode != http.StatusOK {
			b.Fatalf("%d %s %v", res.StatusCode, body, err)
		}
		var page struct{ Data []chat.Message }
		if err := json.Unmarshal(body, &page); err != nil {
			b.Fatal(err)
		}
		checkPage(b, page.Data, newest)
	}
	b.ReportMetric((meter.CPU(s.pods[0].PID())-api)/float64(len(took))*1e6, "api-CPU-µs/page")
	report(b, took)
}

// checkPage wants one message after the other, newest first.
func checkPage(b *testing.B, page []chat.Message, newest int64) {
	b.Helper()
	if len(page) != pageSize {
		b.Fatalf("%d messages, want %d", len(page), pageSize)
	}
	for i, m := range page {
		if m.Seq != newest-int64(i) {
			b.Fatalf("message %d has seq %d, want %d", i, m.Seq, newest-int64(i))
		}
	}
}

func report(b *testing.B, took []time.Duration) {
	b.Helper()
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "µs-median/page")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "µs-p99/page")
	b.ReportMetric(0, "ns/op")
}
