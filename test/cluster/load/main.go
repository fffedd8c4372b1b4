// Command load chats through a Service from within the cluster, and reports losses.
//
//	load run URL PEOPLE RATE [features]   chats until it is stopped, and prints a report as the last line; with features they
//	                                      also react, mention, pin, mute and edit
//	load stop                             stops it, from a second process in the same pod
//	load dial HOST:PORT                   exits with 0 where somebody listens
package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/parley-chat/parley/internal/client"
	"github.com/parley-chat/parley/test/cluster/report"
)

// stopFile is where stop leaves its word.
const stopFile = "/tmp/stop"

const (
	reconnectDelay = 200 * time.Millisecond
	// settleTime is what the last messages get to arrive.
	settleTime = 15 * time.Second
	password   = "correct horse battery"
)

func main() {
	var err error
	switch args := os.Args[1:]; {
	case (len(args) == 4 || len(args) == 5 && args[4] == withFeatures) && args[0] == "run":
		people, perr := strconv.Atoi(args[2])
		rate, rerr := strconv.Atoi(args[3])
		err = errors.Join(perr, rerr)
		if err == nil {
			var l *load
			if l, err = newLoad(strings.TrimRight(args[1], "/"), people, len(args) == 5); err == nil {
				err = l.run(os.Stdout, rate, stopFile)
			}
		}
	case len(args) == 1 && args[0] == "stop":
		err = os.WriteFile(stopFile, nil, 0o600)
	case len(args) == 2 && args[0] == "dial":
		var c net.Conn
		if c, err = net.DialTimeout("tcp", args[1], 5*time.Second); err == nil {
			_ = c.Close()
		}
	default:
		err = errors.New("usage: load run URL PEOPLE RATE [features] | stop | dial HOST:PORT")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

// load is what runs.
type load struct {
	conversation string
	people       []*person
	features     *features // nil without

	mu     sync.Mutex // guards what follows
	report report.Load
	acked  map[string]bool // ids of messages that were answered 201 or 200
	took   []time.Duration // of every send
}

// person has a socket and sends. One in two keeps connections open for requests, the others make one for each.
type person struct {
	client.Server
	id string

	mu       sync.Mutex // guards what follows
	seen     map[string]int64
	revision int64
	ready    bool
}

// newLoad registers the people and puts them into a group.
func newLoad(base string, people int, withFeatures bool) (*load, error) {
	l := &load{acked: map[string]bool{}, report: report.Load{Closes: map[string]int{}}}
	ids := make([]string, people)
	for i := range people {
		p := &person{seen: map[string]int64{}, Server: client.Server{Base: base, HTTP: &http.Client{
			Timeout: client.AnswerTime, Transport: &http.Transport{DisableKeepAlives: i%2 == 0, MaxIdleConnsPerHost: 4},
		}}}
		var account struct {
			User        struct{ ID string }
			AccessToken string
		}
		body := map[string]string{"username": "load_" + strings.ToLower(rand.Text()[:12]), "password": password}
		if err := p.Call(context.Background(), "POST", "/auth/register", body, &account); err != nil {
			return nil, err
		}
		p.id, p.Token = account.User.ID, account.AccessToken
		l.people, ids[i] = append(l.people, p), p.id
	}
	var c struct {
		ID       string
		Revision int64
	}
	if err := l.people[0].Call(context.Background(), "POST", "/conversations", map[string]any{"type": "group", "name": "load", "memberIds": ids[1:]}, &c); err != nil {
		return nil, err
	}
	l.conversation = c.ID
	for _, p := range l.people {
		p.revision = c.Revision
	}
	if withFeatures {
		l.features = newFeatures()
	}
	return l, nil
}

// run has them chat until the file stop is there, and writes its progress and the report.
func (l *load) run(w io.Writer, rate int, stop string) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var sockets, senders sync.WaitGroup
	for _, p := range l.people {
		sockets.Go(func() { l.listen(ctx, p) })
	}
	for !l.allReady() {
		time.Sleep(20 * time.Millisecond)
	}
	_, _ = fmt.Fprintln(w, "running")
	begun := time.Now()
	tick := time.NewTicker(time.Second / time.Duration(rate))
	defer tick.Stop()
	for n := 0; !exists(stop); n++ {
		<-tick.C
		p := l.people[n%len(l.people)]
		senders.Go(func() { l.send(p, n) })
		if n%rate == 0 {
			_, _ = fmt.Fprintln(w, report.Progress, n)
		}
		if n%4 == 0 {
			senders.Go(func() { l.read(p) })
		}
		if l.features != nil {
			senders.Go(func() { l.useFeature(p, n) })
		}
	}
	senders.Wait()
	l.report.Seconds = time.Since(begun).Seconds()
	slices.Sort(l.took)
	if n := len(l.took); n > 0 {
		l.report.SendP99, l.report.SlowestSend = l.took[(n-1)*99/100].Seconds(), l.took[n-1].Seconds()
	}
	history, err := l.history()
	if err != nil {
		return err
	}
	l.settle(history)
	cancel()
	l.verify(history)
	if l.features != nil {
		if _, err := l.verifyFeatures(); err != nil {
			return err
		}
	}
	return json.NewEncoder(w).Encode(&l.report)
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

func (l *load) allReady() bool {
	for _, p := range l.people {
		p.mu.Lock()
		ready := p.ready
		p.mu.Unlock()
		if !ready {
			return false
		}
	}
	return true
}

// count counts a request by whether it failed.
func (l *load) count(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.report.Requests++
	if err == nil {
		return
	}
	l.report.Failed++
	if len(l.report.Failures) < 20 {
		l.report.Failures = append(l.report.Failures, time.Now().Format("15:04:05.000 ")+err.Error())
	}
}

type message struct {
	ID       string `json:"id"`
	Seq      int64  `json:"seq"`
	Revision int64  `json:"revision"`
}

func (l *load) send(p *person, n int) {
	id := fmt.Sprintf("%s-%d", p.id, n)
	var m message
	body := map[string]any{"content": id, "clientMessageId": id}
	if l.features != nil && n%mentionEvery == 0 {
		body["mentions"] = map[string]any{"userIds": []string{l.people[(n+1)%len(l.people)].id}}
	}
	begun := time.Now()
	err := p.Call(context.Background(), "POST", "/conversations/"+l.conversation+"/messages", body, &m)
	took := time.Since(begun)
	l.count(err)
	if l.features != nil {
		l.features.sent(p, m.ID, body["mentions"] != nil, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.took = append(l.took, took)
	if err == nil {
		l.report.Sent++
		l.acked[m.ID] = true
	}
}

func (l *load) read(p *person) {
	var page struct{ Data []message }
	l.count(p.Call(context.Background(), "GET", "/conversations/"+l.conversation+"/messages?limit=20", nil, &page))
}

// history is all that Postgres has, in order.
func (l *load) history() ([]message, error) {
	var all []message
	for after := int64(0); ; {
		var page struct{ Data []message }
		path := fmt.Sprintf("/conversations/%s/messages?afterSeq=%d&limit=100", l.conversation, after)
		if err := l.people[0].Call(context.Background(), "GET", path, nil, &page); err != nil {
			return nil, err
		}
		if len(page.Data) == 0 {
			return all, nil
		}
		all = append(all, page.Data...)
		after = page.Data[len(page.Data)-1].Seq
	}
}

// settle waits until everybody saw everything.
func (l *load) settle(history []message) {
	for deadline := time.Now().Add(settleTime); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		missing := 0
		for _, p := range l.people {
			missing += p.missing(history)
		}
		if missing == 0 {
			return
		}
	}
}

func (p *person) missing(history []message) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, m := range history {
		if _, ok := p.seen[m.ID]; !ok {
			n++
		}
	}
	return n
}

// verify holds what was answered and what sockets brought against what Postgres has.
func (l *load) verify(history []message) {
	l.mu.Lock()
	defer l.mu.Unlock()
	there := map[string]bool{}
	for i, m := range history {
		if m.Seq != int64(i+1) || there[m.ID] {
			l.report.Gaps++
		}
		there[m.ID] = true
	}
	for id := range l.acked {
		if !there[id] {
			l.report.Lost++
		}
	}
	for _, p := range l.people {
		l.report.Unseen += p.missing(history)
	}
}

// listen keeps a socket open until ctx ends: after a close it reconnects and syncs.
func (l *load) listen(ctx context.Context, p *person) {
	for first := true; ctx.Err() == nil; first = false {
		begun := time.Now()
		c, err := p.Dial(ctx, nil, "/api/ws", nil)
		if err != nil {
			l.closed("refused: " + err.Error())
			time.Sleep(reconnectDelay)
			continue
		}
		stop := context.AfterFunc(ctx, func() { _ = c.Close() })
		err = l.readFrames(p, c, first, begun)
		stop()
		if ctx.Err() != nil {
			return
		}
		if code := client.CloseCode(err); code != 0 {
			l.closed(strconv.Itoa(code))
		} else {
			l.closed("cut")
		}
	}
}

func (l *load) closed(how string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.report.Closes[how]++
}

// readFrames handles what the socket brings until it is closed. begun is when it was wanted.
func (l *load) readFrames(p *person, c *client.Socket, first bool, begun time.Time) error {
	defer c.Close()
	last := int64(0)
	for {
		f, err := c.Next()
		if err != nil {
			return err
		}
		switch f.Type {
		case "ready":
			l.back(first, time.Since(begun))
			err = l.sync(p, c)
		case "message:new":
			last, err = l.noteMessage(p, f.Data, last)
		case "ack":
			if p.synced(f.Data, l.conversation) {
				err = l.sync(p, c)
			}
		}
		if err != nil {
			return err
		}
	}
}

// noteMessage notes that a socket brought a message, which has to come after the last one, and returns its seq.
func (l *load) noteMessage(p *person, data json.RawMessage, last int64) (seq int64, err error) {
	var m message
	if err := json.Unmarshal(data, &m); err != nil {
		return last, err
	}
	if m.Seq <= last {
		l.mu.Lock()
		l.report.Doubled++
		l.mu.Unlock()
	}
	p.saw(m)
	return m.Seq, nil
}

// back notes that a socket is there again.
func (l *load) back(first bool, took time.Duration) {
	if first {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.report.Reconnects++
	l.report.SlowestReconnect = max(l.report.SlowestReconnect, took.Seconds())
}

func (l *load) sync(p *person, c *client.Socket) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return c.Send("sync", "sync", client.Sync{Conversations: map[string]int64{l.conversation: p.revision}})
}

func (p *person) saw(m message) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen[m.ID] = m.Seq
}

// synced applies the response to a sync, and reports whether there is more.
func (p *person) synced(data json.RawMessage, conversation string) bool {
	var answer client.Synced[client.SyncPart]
	if err := json.Unmarshal(data, &answer); err != nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	a, ok := answer.Conversations[conversation]
	if ok {
		for _, m := range a.Messages {
			p.seen[m.ID] = m.Seq
		}
		p.revision = max(p.revision, a.Revision)
	}
	more := ok && !a.Complete
	p.ready = p.ready || !more
	return more
}
