package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/parley-chat/parley/internal/client"
)

// bench is a run.
type bench struct {
	*settings
	run        string    // names it
	epoch      time.Time // what the times in messages count from
	stats      *stats
	violations *violations
	made       maker
	people     []*person
	convs      []*conversation
	http       *http.Client
	loopback   bool
	keepLast   bool // people remember their newest messages, to read them
	lively     bool // people react, mention, edit, pin and change their own state too
	ordered    bool // a conversation's messages come from one socket, and have to be in the order in which they were sent
	visits     map[string]*visit
	fail       context.CancelCauseFunc // ends the load: it can't be measured so
	log        io.Writer
	logMu      sync.Mutex

	buffers         sync.Pool    // of what is written to sockets
	asked           atomic.Int64 // frames
	acked, received *timings
	deliveries      *atomic.Int64
}

func newBench(s *settings, log io.Writer) *bench {
	b := &bench{
		settings: s, run: newRun(), epoch: time.Now(), stats: newStats(0), log: log, loopback: loopback(s.URLs), visits: map[string]*visit{},
		http: &http.Client{Timeout: answerTime, Transport: &http.Transport{
			MaxIdleConnsPerHost: 10_000, TLSClientConfig: &tls.Config{InsecureSkipVerify: s.insecure}, //nolint:gosec // only where --insecure says so
		}},
	}
	b.violations = newViolations(func(text string) { b.say("VIOLATION %s", text) })
	b.acked, b.received, b.deliveries = b.stats.timings("ack"), b.stats.timings("receive"), b.stats.counter("deliveries")
	return b
}

// say prints a line for who watches.
func (b *bench) say(format string, args ...any) {
	b.logMu.Lock()
	defer b.logMu.Unlock()
	_, _ = fmt.Fprintf(b.log, format+"\n", args...)
}

// url is one of the addresses.
func (b *bench) url(n int) string { return b.URLs[n%len(b.URLs)] }

// hopeless reports whether a retry is useless, and ends the run in that case.
func (b *bench) hopeless(err error) bool {
	if pr := client.ProblemOf(err); pr == nil || pr.Status >= http.StatusInternalServerError {
		return false
	}
	b.fail(err)
	return true
}

// frameID is one that no other frame has.
func (b *bench) frameID() string { return b.run + "." + strconv.FormatInt(b.asked.Add(1), 36) }

// newConversation makes a conversation that has messages up to seq base, and whose members hold it up to the revision.
func (b *bench) newConversation(id string, base, revision int64, members []*person) *conversation {
	c := newConversation(id, base)
	c.members = members
	for _, p := range members {
		p.feeds[id] = newFeed(c, p.id, revision)
	}
	b.convs = append(b.convs, c)
	return c
}

// delivered notes messages that came to a member for the first time.
func (b *bench) delivered(c *conversation, n int64) {
	b.deliveries.Add(n)
	size := int64(len(c.members))
	if now := c.delivered.Add(n); now/size != (now-n)/size {
		select {
		case c.moved <- struct{}{}:
		default:
		}
	}
}

// pause waits, unless ctx ends first.
func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// descriptors makes sure that there is one for each socket.
func (b *bench) descriptors(sockets int) error {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return err
	}
	l.Cur = l.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return err
	}
	const others = 100
	if need := uint64(sockets + others); l.Max < need { //nolint:gosec // no negative number of sockets
		return fmt.Errorf("%d sockets need %d descriptors, and this process may have %d: raise its limit (ulimit -Hn, LimitNOFILE=), or take fewer, or several machines", sockets, need, l.Max)
	}
	return nil
}

// writable makes sure that the results can be written, which is too late to find out when there are some.
func (b *bench) writable() error {
	for _, name := range []string{b.json, b.report} {
		if name == "" {
			continue
		}
		f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY, 0o644) //nolint:gosec // who runs it names it; results are no secret
		if err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	return nil
}

// connect opens sockets at the rate, those that fail too: the first error is returned when all have been tried.
func (b *bench) connect(ctx context.Context, people []*person) error {
	const atOnce = 256
	slots, errs := make(chan struct{}, atOnce), make(chan error, 1)
	var wg sync.WaitGroup
	start, hold := time.Now(), context.WithoutCancel(ctx)
	for i, p := range people {
		intended := start.Add(time.Duration(float64(i) / b.ConnectRate * float64(time.Second)))
		if pause(ctx, time.Until(intended)) != nil {
			break
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if err := p.open(hold, intended, true); err != nil {
				select {
				case errs <- err:
				default:
				}
			}
		})
	}
	wg.Wait()
	select {
	case err := <-errs:
		return err
	default:
		return context.Cause(ctx)
	}
}

// lasting is the time of the load.
func (b *bench) lasting(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, b.Duration)
}

// missing counts what has not come yet: messages at listeners, and answers.
func (b *bench) missing() (n int64) {
	for _, p := range b.people {
		p.mu.Lock()
		if p.wanted {
			n += int64(len(p.pending))
			for _, f := range p.feeds {
				n += f.lacks()
			}
			if p.conn == nil {
				n++
			}
		}
		p.mu.Unlock()
	}
	return n
}

// drain waits for what is missing for as long as something comes.
func (b *bench) drain() {
	least, since := b.missing(), time.Now()
	for left := least; left > 0 && time.Since(since) < b.Drain; left = b.missing() {
		if left < least {
			least, since = left, time.Now()
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// prove looks for what never came.
func (b *bench) prove() {
	for _, c := range b.convs {
		c.check(b.violations)
		if b.ordered && b.sentOnce() {
			c.checkOrder(b.violations)
		}
	}
	for _, p := range b.people {
		p.mu.Lock()
		if p.wanted {
			for _, f := range p.feeds {
				if n := f.lacks(); n > 0 {
					b.stats.add("lost", n)
					b.violations.add("lost", "%s in %s: %d messages never came, the first is %d", p.id, f.conversation.id, n, f.held+1)
				}
			}
			if n := len(p.pending); n > 0 {
				b.violations.add("unanswered", "%s: %d frames got no answer", p.id, n)
			}
			if p.conn == nil {
				b.violations.add("not connected", "%s has no socket at the end", p.id)
			}
		}
		p.mu.Unlock()
	}
}

// sentOnce reports whether no frame was sent a second time, on another socket or after a refusal.
func (b *bench) sentOnce() bool {
	for k := range numbers(&b.stats.counters) {
		if k == "reconnects" || strings.HasPrefix(k, "refused ") {
			return false
		}
	}
	return true
}

// closeAll closes all sockets, many at once.
func (b *bench) closeAll() {
	var wg sync.WaitGroup
	for _, p := range b.people {
		wg.Go(p.close)
	}
	wg.Wait()
}
