package test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/parley-chat/parley/internal/testenv"
)

// crowd is a group whose members read at random.
type crowd struct {
	s        *system
	users    []user
	messages []string
	group    conversation
	made     sync.Map // message+user, of reads that were answered 204
	n        atomic.Int64
}

func newCrowd(t testing.TB, s *system, members, messages int) *crowd {
	t.Helper()
	c := &crowd{s: s, users: s.withTokens(t, members)}
	c.group = s.pods[0].group(t, c.users[0], c.users[1:]...)
	for n := range messages {
		c.messages = append(c.messages, s.pods[0].send(t, c.users[0], c.group.ID, fmt.Sprint(n)).ID)
	}
	return c
}

// reads makes every member read every message, in random orders, by as many clients at once. Those that are refused while a
// dependency is unavailable are repeated, as a client would.
func (c *crowd) reads(t testing.TB, clients int) {
	t.Helper()
	type pair struct{ u, m int }
	var all []pair
	for u := 1; u < len(c.users); u++ {
		for m := range c.messages {
			all = append(all, pair{u, m})
		}
	}
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	var next atomic.Int64
	var g sync.WaitGroup
	for k := range clients {
		g.Go(func() {
			p := c.s.pods[k%len(c.s.pods)]
			for {
				i := int(next.Add(1)) - 1
				if i >= len(all) {
					return
				}
				u, m := c.users[all[i].u], c.messages[all[i].m]
				c.readUntilTaken(t, p, u, m)
			}
		})
	}
	g.Wait()
}

func (c *crowd) readUntilTaken(t testing.TB, p *pod, u user, m string) {
	limit := testenv.NewLimit(time.Minute)
	for {
		a, err := p.try(u.token, "POST", "/api/messages/"+m+"/read", nil)
		switch {
		case err == nil && a.status == 204:
			if _, had := c.made.LoadOrStore(m+u.ID, true); !had {
				c.n.Add(1)
			}
			return
		case err == nil && a.status != 503:
			t.Errorf("a read: %d %s", a.status, a.body)
			return
		case limit.Over():
			t.Errorf("a read is not taken: %v %d %s", err, a.status, a.body)
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// settle waits until the rows are as many as the reads that were taken, and holds the counts against them.
func (c *crowd) settle(t testing.TB) {
	t.Helper()
	want := int(c.n.Load())
	if want != (len(c.users)-1)*len(c.messages) {
		t.Errorf("%d reads were taken of %d", want, (len(c.users)-1)*len(c.messages))
	}
	c.s.flushed(t, 60*time.Second)
	if n := c.s.count(t, `SELECT count(*) FROM read_receipts`); n != want {
		t.Errorf("%d rows of %d reads", n, want)
	}
	if n := c.s.count(t, `SELECT count(*) FROM conversation_members WHERE conversation_id = $1 AND last_read_seq <> $2`, c.group.ID, len(c.messages)); n != 0 {
		t.Errorf("%d members are not where they have read to", n)
	}
	for _, m := range c.messages[:3] {
		if r := c.s.pods[0].receipts(t, c.users[0], m); r.Count != len(c.users)-1 {
			t.Errorf("the count is %d of %d", r.Count, len(c.users)-1)
		}
	}
}

func TestReadsRaceTwoWorkers(t *testing.T) {
	t.Parallel()
	s := start(t, 2)
	s.addWorker()
	s.addWorker()
	c := newCrowd(t, s, 101, 60)
	sender := s.pods[1].open(t, c.users[0])
	stop := make(chan struct{})
	var g sync.WaitGroup
	g.Go(func() { c.expectGrowingReceipts(t, c.messages[0], stop) })
	c.reads(t, 16)
	close(stop)
	g.Wait()
	c.settle(t)
	if frames := c.awaitFullCounts(t, sender); frames > 3000 {
		t.Errorf("%d frames for 6000 reads", frames)
	}
}

// expectGrowingReceipts reads a message's receipts until stop. No page may repeat a reader, or lose one that an earlier page had.
func (c *crowd) expectGrowingReceipts(t *testing.T, messageID string, stop <-chan struct{}) {
	for seen := 0; ; {
		select {
		case <-stop:
			return
		default:
		}
		r := c.s.pods[0].receipts(t, c.users[0], messageID)
		users := map[string]bool{}
		for _, x := range r.Data {
			users[x.UserID] = true
		}
		if len(users) != len(r.Data) || r.Count != len(r.Data) || r.Count < seen {
			t.Errorf("%d receipts of %d users, count %d, after %d", len(r.Data), len(users), r.Count, seen)
		}
		seen = r.Count
	}
}

// awaitFullCounts waits until a socket has heard of each message that all others have read it, and returns how many frames that took.
func (c *crowd) awaitFullCounts(t *testing.T, sender *socket) (frames int) {
	t.Helper()
	for full := map[string]bool{}; len(full) < len(c.messages); frames++ {
		var r receiptRead
		if sender.until("receipt:read", 30*time.Second).into(t, &r); r.Count == len(c.users)-1 {
			full[r.MessageID] = true
		}
	}
	return frames
}

// A worker is killed at each step of a flush, over and over, while others read and another worker flushes.
func TestWorkersKilledAtEveryStep(t *testing.T) {
	t.Parallel()
	s := start(t, 1)
	c := newCrowd(t, s, 41, 40)
	var g sync.WaitGroup
	g.Go(func() { c.reads(t, 4) })
	for _, point := range []string{"receipt.read", "receipt.written", "receipt.removed"} {
		for range 2 {
			doomed, _ := s.launchBeside("receipt-worker", "PARLEY_RECEIPT_FLUSH_INTERVAL=1s", "PARLEY_FAULT="+point+"=kill") // before it is ready, maybe
			testenv.Receive(t, doomed.Done(), time.Minute, "the worker comes to %s", point)
			// something is pending for the next one, whatever the reads are at
			s.pods[0].read(t, c.users[1+rand.IntN(40)], s.pods[0].send(t, c.users[0], c.group.ID, "more").ID)
		}
	}
	g.Wait()
	s.addWorker()
	s.flushed(t, 60*time.Second)
	if n := s.count(t, `SELECT count(*) FROM read_receipts WHERE message_id = ANY ($1::text[]::uuid[])`, c.messages); n != 1600 {
		t.Errorf("%d rows of 1600 reads", n)
	}
	if n := s.count(t, `SELECT count(*) FROM read_receipts`); n != 1606 {
		t.Errorf("%d rows of 1606 reads", n)
	}
}

func TestPostgresAwayForThreeTicks(t *testing.T) {
	t.Parallel()
	pg := testenv.PostgresServer(t)
	s := &system{t: t, pg: pg.URL(), redis: testenv.NewRedis(t), extra: nil}
	p := s.addPod()
	w := s.addWorker()
	c := newCrowd(t, s, 4, 0)
	sock := p.open(t, c.users[1])
	for n := range 3 {
		c.messages = append(c.messages, p.send(t, c.users[0], c.group.ID, fmt.Sprint(n)).ID)
	}
	sock.messages(1, 3, 10*time.Second)
	pg.Stop()
	// A socket's reads of messages that the pod has heard of are kept in Redis.
	for _, m := range c.messages {
		sock.acks("message:read", map[string]any{"messageId": m})
	}
	if a := p.call(t, c.users[2].token, "POST", "/api/messages/"+c.messages[0]+"/read", nil); a.status != 503 || a.header.Get("Retry-After") == "" {
		t.Errorf("a read of who has no socket here: %d %s", a.status, a.body)
	}
	testenv.Eventually(t, 30*time.Second, func() bool { return metric(t, w.ops, "parley_receipts_flush_failures_total") >= 3 }, "three flushes fail")
	testenv.Eventually(t, 30*time.Second, func() bool { return metric(t, w.ops, "parley_receipts_oldest_age_seconds") >= 3 }, "the age of what is pending shows")
	if n := metric(t, w.ops, "parley_receipts_pending"); n != 3 {
		t.Errorf("%v reads are pending", n)
	}
	if n := strings.Count(w.Logs(), "a periodic task failed"); n != 1 || strings.Contains(w.Logs(), "level=ERROR") {
		t.Errorf("%d lines of the log are about three flushes that failed: %s", n, w.Logs())
	}
	if q, err := asynq.NewInspectorFromRedisClient(s.redis.Client(t)).GetQueueInfo("receipts"); err != nil || q.Archived != 0 {
		t.Errorf("asynq keeps the tasks of flushes that failed: %+v, %v", q, err)
	}
	pg.Start()
	s.flushed(t, 30*time.Second)
	testenv.Eventually(t, time.Minute, func() bool { return strings.Contains(w.Logs(), "the periodic task succeeds again") }, "the log says that it is over")
	if n := s.count(t, `SELECT count(*) FROM read_receipts WHERE user_id = $1`, c.users[1].ID); n != 3 {
		t.Errorf("%d rows of 3 reads", n)
	}
	p.expectRead(t, c.users[1], c.group.ID, 3, 0)
}

func TestRedisRestartedBetweenReadAndFlush(t *testing.T) {
	t.Parallel()
	s := &system{t: t, pg: testenv.Postgres(t), redis: testenv.NewRedis(t, "--appendonly", "yes", "--appendfsync", "always")}
	p := s.addPod()
	c := newCrowd(t, s, 21, 10)
	c.reads(t, 4)
	s.redis.Stop()
	// Without Redis a read of a group goes straight to Postgres.
	more := p.send(t, c.users[0], c.group.ID, "more")
	p.read(t, c.users[1], more.ID)
	if n := s.rows(t, more.ID); n != 1 {
		t.Errorf("%d rows of a read without Redis", n)
	}
	if r := p.receipts(t, c.users[0], more.ID); r.Count != 1 || len(r.Data) != 1 {
		t.Errorf("receipts without Redis: %+v", r)
	}
	if metric(t, p.ops, `parley_receipts_reads_total{path="fallback"}`) == 0 {
		t.Error("the fallback is not counted")
	}
	s.redis.Start()
	s.addWorker()
	s.flushed(t, 30*time.Second)
	if n := s.count(t, `SELECT count(*) FROM read_receipts`); n != 201 {
		t.Errorf("%d rows of 201 reads", n)
	}
	testenv.Eventually(t, 30*time.Second, func() bool {
		m := p.send(t, c.users[0], c.group.ID, "again")
		p.read(t, c.users[1], m.ID)
		n, err := s.redis.Client(t).Exists(t.Context(), key("read_batch:", m.ID)).Result()
		return err == nil && n == 1 || s.rows(t, m.ID) == 0
	}, "reads go to Redis again")
}

// A tick's task that was archived, paused or left by a dead worker is in nobody's way.
func TestTheScheduleGoesOnPastAnArchivedTask(t *testing.T) {
	t.Parallel()
	s := start(t, 1)
	c := newCrowd(t, s, 4, 2)
	i := asynq.NewInspectorFromRedisClient(s.redis.Client(t))
	w := s.addWorker()
	testenv.Eventually(t, 30*time.Second, func() bool { return i.PauseQueue("receipts") == nil }, "the queue can be paused")
	archived := 0
	testenv.Eventually(t, 30*time.Second, func() bool {
		n, _ := i.ArchiveAllPendingTasks("receipts")
		archived += n
		return archived >= 2
	}, "tasks were archived by hand")
	if err := i.UnpauseQueue("receipts"); err != nil {
		t.Fatal(err)
	}
	s.pods[0].read(t, c.users[1], c.messages[0])
	s.flushed(t, 30*time.Second)
	if n := s.rows(t, c.messages[0]); n != 1 {
		t.Errorf("%d rows", n)
	}
	testenv.Eventually(t, 30*time.Second, func() bool {
		return metric(t, w.ops, `parley_asynq_tasks{queue="receipts",state="archived"}`) >= 2
	}, "the archived tasks show")
	if n := metric(t, w.ops, `parley_asynq_tasks{queue="receipts",state="pending"}`); n > 1 {
		t.Errorf("%v tasks are pending", n)
	}
}

// However many workers run, a tick is enqueued once.
func TestThreeWorkersRunEachTickOnce(t *testing.T) {
	t.Parallel()
	s := start(t, 1)
	for range 3 {
		s.addWorker()
		time.Sleep(300 * time.Millisecond) // so that their own clocks tick apart
	}
	rdb := s.redis.Client(t)
	i := asynq.NewInspectorFromRedisClient(rdb)
	done := func() (int, time.Time) {
		q, err := i.GetQueueInfo("receipts")
		if err != nil {
			t.Fatal(err)
		}
		return q.ProcessedTotal, rdb.Time(t.Context()).Val()
	}
	before, from := done()
	after, to := before, from
	testenv.Eventually(t, time.Minute, func() bool { after, to = done(); return after >= before+5 }, "five flushes are made")
	if ticks := int(to.Unix() - from.Unix()); after-before > ticks+1 { // a busy machine may miss some
		t.Errorf("%d flushes in %d ticks", after-before, ticks)
	}
}

// On SIGTERM a worker ends the piece that it has in hand, removes what it wrote, and goes.
func TestAWorkerStopsAfterThePieceInHand(t *testing.T) {
	t.Parallel()
	s := start(t, 1)
	c := newCrowd(t, s, 11, 10)
	c.reads(t, 4)
	stall := filepath.Join(t.TempDir(), "stall")
	if err := os.WriteFile(stall, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w := s.addWorker("PARLEY_FAULT=receipt.written=stall:" + stall)
	testenv.Eventually(t, 30*time.Second, func() bool { return s.count(t, `SELECT count(*) FROM read_receipts`) > 0 }, "a piece is written")
	w.Signal(syscall.SIGTERM)
	testenv.Eventually(t, 30*time.Second, func() bool { return strings.Contains(w.Logs(), "stopping") }, "the worker heard it")
	if err := os.Remove(stall); err != nil {
		t.Fatal(err)
	}
	if code := w.Wait(30 * time.Second); code != 0 {
		t.Errorf("the worker exits with %d", code)
	}
	if n := keys(t, s.redis.Client(t), "read_batch:*"); len(n) != 0 {
		t.Errorf("%d batches are left of what was written", len(n))
	}
	if n, err := s.redis.Client(t).Exists(t.Context(), "read_flush_lease").Result(); err != nil || n != 0 {
		t.Errorf("the lease is left: %d, %v", n, err)
	}
	s.addWorker()
	c.settle(t)
}

// A worker that can ask nobody stops in time all the same.
func TestAWorkerStopsWhileRedisIsAway(t *testing.T) {
	t.Parallel()
	s := &system{t: t, pg: testenv.Postgres(t), redis: testenv.NewRedis(t)}
	w := s.addWorker()
	s.redis.Stop()
	testenv.Eventually(t, 60*time.Second, func() bool { return metric(t, w.ops, "parley_receipts_flush_ticks_missed_total") >= 1 }, "a tick is missed")
	w.Signal(syscall.SIGTERM)
	if code := w.Wait(60 * time.Second); code != 0 {
		t.Errorf("the worker exits with %d: %s", code, w.Logs())
	}
}

// What on-call sees of the queue comes back after Redis lost its memory, and so do the flushes.
func TestTheQueueIsSeenAfterRedisLostItsMemory(t *testing.T) {
	t.Parallel()
	s := &system{t: t, pg: testenv.Postgres(t), redis: testenv.NewRedis(t)}
	w := s.addWorker()
	seen := func() bool { return metric(t, w.ops, `parley_asynq_tasks{queue="receipts",state="completed"}`) >= 1 }
	testenv.Eventually(t, 60*time.Second, seen, "flushes are seen")
	s.redis.Stop()
	s.redis.Start()
	testenv.Eventually(t, 60*time.Second, seen, "flushes are seen again")
}

// A Redis that hangs from the start keeps no worker from stopping in time.
func TestAWorkerStopsWhileRedisHangsFromTheStart(t *testing.T) {
	t.Parallel()
	s := &system{t: t, pg: testenv.Postgres(t), redis: testenv.NewRedis(t)}
	s.redis.Pause()
	defer s.redis.Resume()
	w, _ := s.launchBeside("receipt-worker", "PARLEY_RECEIPT_FLUSH_INTERVAL=1s")
	testenv.Eventually(t, 60*time.Second, func() bool { return strings.Contains(w.Logs(), "redis does not accept the next task") }, "a tick is missed")
	w.Signal(syscall.SIGTERM)
	if code := w.Wait(60 * time.Second); code != 0 {
		t.Errorf("the worker exits with %d", code)
	}
}
