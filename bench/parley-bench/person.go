package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fasthttp/websocket"

	"github.com/parley-chat/parley/internal/client"
)

// text fills messages.
const text = "the quick brown fox jumps over the lazy dog and writes about it, in a hundred letters and some more"

// person is a user with, at most, one socket. It is opened anew when it breaks, until it is to be closed.
type person struct {
	b        *bench
	n        int
	id       string
	password string
	failed   atomic.Int64 // sockets and requests
	state    atomic.Int64 // the revision of their own states that they hold
	friends  []string     // whose presence is watched

	signing sync.Mutex // guards what follows
	token   string
	refresh string
	expires time.Time

	writing sync.Mutex // held while writing to conn; before mu where both are

	mu      sync.Mutex // guards what follows
	feeds   map[string]*feed
	pending map[string]*request
	conn    *client.Socket // nil while there is none
	usable  bool           // requests may be written: it is ready, and sync is through
	wanted  bool
	gone    chan struct{}     // closed when the socket is and nobody reads any more
	last    map[string]string // conversation -> newest message, where the scenario reads messages
	seen    map[string]bool   // friend -> whether they are online, where the scenario watches presence
}

// request waits for its ack.
type request struct {
	frame []byte
	done  func(ack []byte, err error) // is called by who reads the socket: it must not wait
}

func newPerson(b *bench, n int, id, token string) *person {
	return &person{b: b, n: n, id: id, token: token, feeds: map[string]*feed{}, pending: map[string]*request{}, last: map[string]string{}, seen: map[string]bool{}}
}

func (p *person) frame(b []byte) {
	switch typ := string(client.Field(b, `"type":"`)); typ {
	case "message:new":
		p.message(b)
	case "ack":
		p.answer(b, nil)
	case "error":
		var f client.Frame
		_ = json.Unmarshal(b, &f) // of what is no JSON, the problem has no code
		p.answer(b, f.Problem())
	case "presence:online", "presence:offline":
		p.presence(string(client.Field(b, `"userId":"`)), typ == "presence:online")
	case "receipt:read":
		p.b.stats.add("receipts delivered", 1)
	case "message:reacted", "message:updated", "state:updated":
		p.b.stats.add(typ, 1)
	}
}

// message takes a message that came live.
func (p *person) message(b []byte) {
	now := time.Now()
	seq := client.Integer(b, `"seq":`)
	p.mu.Lock()
	f := p.feeds[string(client.Field(b, `"conversationId":"`))]
	if f == nil || seq == 0 {
		p.mu.Unlock()
		p.b.violations.add("unreadable", "%.200s", b)
		return
	}
	fresh := f.message(p.b.violations, seq, client.Integer(b, `"revision":`))
	if p.b.keepLast {
		p.last[f.conversation.id] = string(client.Field(b, `"data":{"id":"`))
	}
	p.mu.Unlock()
	if !fresh {
		return
	}
	p.b.delivered(f.conversation, 1)
	if id := client.Field(b, `"clientMessageId":"`); bytes.HasPrefix(id, []byte(p.b.run)) {
		at, _ := strconv.ParseInt(string(id[bytes.LastIndexByte(id, '.')+1:]), 36, 64) // the load wrote it
		p.b.received.record(p.n, now.Sub(p.b.epoch)-time.Duration(at))
	}
}

// answer takes an ack or an error.
func (p *person) answer(b []byte, pr *client.Problem) {
	id := string(client.Field(b, `"id":"`)) // an answer's own comes before its data
	p.mu.Lock()
	r := p.pending[id]
	delete(p.pending, id)
	p.mu.Unlock()
	var err error
	if pr != nil {
		err = pr
		p.b.stats.add("refused "+pr.Code, 1)
		if pr.Code == "rate_limited" {
			p.b.fail(fmt.Errorf("a frame: %w (PARLEY_RATE_LIMIT_SEND, PARLEY_RATE_LIMIT_DEFAULT; see docs/benchmarking.md)", pr))
		}
	}
	if r != nil {
		r.done(b, err)
	}
}

// ask sends a frame that wants an ack. Where the socket breaks before that, it is sent again on the next one: all that the
// load asks may be asked twice.
func (p *person) ask(typ, id string, data any, done func(ack []byte, err error)) {
	frame, err := client.Encode(typ, id, data)
	if err != nil {
		done(nil, err)
		return
	}
	p.mu.Lock()
	p.pending[id] = &request{frame, done}
	usable := p.usable
	p.mu.Unlock()
	if usable {
		p.write(frame)
	}
}

// write writes a frame. Where that fails the reader notices too.
func (p *person) write(frame []byte) {
	p.writing.Lock()
	defer p.writing.Unlock()
	p.mu.Lock()
	conn := p.conn
	p.mu.Unlock()
	if conn != nil {
		_ = conn.SetWriteDeadline(time.Now().Add(answerTime))
		_ = conn.WriteMessage(websocket.TextMessage, frame)
	}
}

// resend sends what waits for an ack.
func (p *person) resend() {
	p.mu.Lock()
	var frames [][]byte
	for _, r := range p.pending {
		if r.frame != nil {
			frames = append(frames, r.frame)
		}
	}
	p.mu.Unlock()
	for _, f := range frames {
		p.write(f)
	}
}

// send sends a message that was to be sent at intended. done, which may be nil, is called when it is
// acknowledged. Where the server can't for now, it is sent again.
func (p *person) send(c *conversation, intended time.Time, done func()) {
	id := p.b.frameID() + "." + strconv.FormatInt(int64(intended.Sub(p.b.epoch)), 36) // receivers read the time from it
	c.try()
	p.b.stats.add("sent", 1)
	data := map[string]any{"conversationId": c.id, "clientMessageId": id, "content": text}
	if p.b.lively {
		p.addExtras(c, data)
	}
	var answered func(ack []byte, err error)
	answered = func(ack []byte, err error) {
		if pr := client.ProblemOf(err); pr != nil && pr.Status >= http.StatusInternalServerError {
			time.AfterFunc(backoff(2), func() { p.ask("message:send", id, data, answered) })
			return
		}
		if err != nil {
			p.b.fail(fmt.Errorf("a message was refused: %w", err))
		} else {
			p.b.acked.record(p.n, time.Since(intended))
			p.b.stats.add("acked", 1)
			c.ack(p.b.violations, client.Integer(ack, `"seq":`), id)
		}
		if done != nil {
			done()
		}
	}
	p.ask("message:send", id, data, answered)
}

// sendingOrder is the number in a client message id, which is RUN.NUMBER.TIME: later messages have a higher one.
func sendingOrder(clientMessageID string) int64 {
	_, rest, _ := strings.Cut(clientMessageID, ".")
	number, _, _ := strings.Cut(rest, ".")
	n, _ := strconv.ParseInt(number, 36, 64) // the load wrote it
	return n
}

// maxSync is how many conversations one sync may name.
const maxSync = 500

// sync asks for what was missed while there was no socket, until there is no more.
func (p *person) sync() {
	held := map[string]int64{}
	p.mu.Lock()
	for id, f := range p.feeds {
		if !f.synced && len(held) < maxSync {
			held[id] = f.revision
		}
	}
	conn := p.conn
	p.usable = len(held) == 0
	if len(held) > 0 {
		p.pending["sync"] = &request{nil, func(ack []byte, err error) { p.synced(conn, held, ack, err) }}
	}
	p.mu.Unlock()
	if len(held) == 0 {
		p.resend()
		return
	}
	data := client.Sync{Conversations: held}
	if state := p.state.Load(); p.b.lively {
		data.State = &state
	}
	if frame, err := client.Encode("sync", "sync", data); err == nil {
		p.write(frame)
	}
}

func (p *person) synced(conn *client.Socket, held map[string]int64, ack []byte, err error) {
	var a struct {
		Data client.Synced[struct {
			Messages []struct{ Seq int64 }
			Revision int64
			Complete bool
		}]
	}
	if err == nil {
		err = json.Unmarshal(ack, &a)
	}
	if err != nil {
		p.b.stats.add("failed sync", 1)
		_ = conn.Close() // and again, on the next socket
		return
	}
	p.b.stats.add("syncs", 1)
	if a.Data.State != nil {
		p.state.Store(a.Data.State.Revision)
	}
	for _, id := range a.Data.Gone {
		p.b.violations.add("gone", "%s: sync says that %s is gone", p.id, id)
	}
	p.mu.Lock()
	for id := range held {
		part, changed := a.Data.Conversations[id]
		var seqs []int64
		for _, m := range part.Messages {
			seqs = append(seqs, m.Seq)
		}
		f := p.feeds[id]
		fresh := int64(f.sync(p.b.violations, seqs, part.Revision, part.Complete || !changed))
		p.b.stats.add("deliveries by sync", fresh)
		p.b.delivered(f.conversation, fresh)
	}
	p.mu.Unlock()
	p.sync()
}
