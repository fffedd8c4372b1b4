package webhook

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/rediskey"
	"github.com/parley-chat/parley/internal/testenv"
)

// hear starts hints, which end with the test.
func hear(t *testing.T, redis testenv.RedisEngine) *Hints {
	t.Helper()
	hints := NewHints(redis.Client(t), slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = hints.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	testenv.Eventually(t, time.Minute, hints.hearing, "hints are heard")
	testenv.Receive(t, hints.wake, time.Minute, "the subscription wakes the dispatcher")
	return hints
}

// What pods publish for each other has a message delivered without a poll, by whichever dispatcher is first, and once.
func TestAHintIsFollowedBeforeThePoll(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	r := newReceiver(t)
	h.endpoint(r, fromNow)
	redis := testenv.NewRedis(t)
	hints := hear(t, redis)
	if _, more := hints.takeHints(); !more {
		t.Error("what was published before the subscription is not looked for")
	}
	d := NewDispatcher(Config{Timeout: 5 * time.Second}, h.db.SQL, h.feed, h.sealer, h.guard, hints, NewMetrics(prometheus.NewRegistry()), slog.New(slog.DiscardHandler))
	var works errgroup.Group
	if err := d.poll(t.Context(), &works); err != nil {
		t.Fatal(err)
	}
	if d.waits || d.pollPause() != pollIdle {
		t.Errorf("something waits: %v, the next poll is in %s", d.waits, d.pollPause())
	}
	g := h.group()
	for i := range 3 {
		h.send(g, fmt.Sprint(i))
		if n := redis.Client(t).Publish(t.Context(), rediskey.ConversationChannel(g), "an event").Val(); n != 1 {
			t.Fatalf("%d heard it", n)
		}
		testenv.Receive(t, hints.wake, time.Minute, "a hint wakes the dispatcher")
		if err := d.followHints(t.Context(), &works); err != nil {
			t.Fatal(err)
		}
		_ = works.Wait()
		if n := r.messages(g); n != i+1 {
			t.Fatalf("%d messages of %d", n, i+1)
		}
	}
	checkOrder(t, r.list())
}

// Foreign names are dropped, and too many hints become a poll.
func TestHintsAreBounded(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	r := newReceiver(t)
	h.endpoint(r, fromNow)
	redis := testenv.NewRedis(t)
	hints := hear(t, redis)
	hints.takeHints()
	rdb := redis.Client(t)
	publish := func(conversation string) {
		t.Helper()
		if err := rdb.Publish(t.Context(), rediskey.ConversationChannel(conversation), "").Err(); err != nil {
			t.Fatal(err)
		}
	}
	publish("not an id")
	g := h.group()
	h.send(g, "one of many")
	for range hintsKept + 1 {
		publish(id.New())
	}
	more := func() bool { hints.mu.Lock(); defer hints.mu.Unlock(); return hints.more }
	testenv.Eventually(t, time.Minute, more, "there are more than are kept")
	d := NewDispatcher(Config{Timeout: 5 * time.Second}, h.db.SQL, h.feed, h.sealer, h.guard, hints, NewMetrics(prometheus.NewRegistry()), slog.New(slog.DiscardHandler))
	d.hinted = true
	var works errgroup.Group
	if err := d.followHints(t.Context(), &works); err != nil {
		t.Fatal(err)
	}
	_ = works.Wait()
	if r.messages(g) != 1 {
		t.Error("a conversation that no hint named is not looked at")
	}
	if list, more := hints.takeHints(); len(list) > 0 || more {
		t.Errorf("%d hints are left, %v", len(list), more)
	}
}

// Without Redis polls are as frequent as ever, and again rare once it is back.
func TestPollsAreFrequentWithoutHints(t *testing.T) {
	t.Parallel()
	redis := testenv.NewRedis(t)
	hints := hear(t, redis)
	d := &Dispatcher{hints: hints}
	redis.Stop()
	testenv.Eventually(t, time.Minute, func() bool { return d.pollPause() == pollEvery }, "polls are frequent")
	redis.Start()
	testenv.Eventually(t, time.Minute, func() bool { return d.pollPause() == pollIdle }, "polls are rare")
	d.waits = true
	if d.pollPause() != pollEvery {
		t.Error("what waits is not looked for")
	}
	if (&Dispatcher{}).pollPause() != pollEvery {
		t.Error("without hints at all")
	}
}

func TestWhoTakesHints(t *testing.T) {
	t.Parallel()
	for types, want := range map[string]bool{"*": true, "message.created": true, "user.created": false, "friend.added": false, "push.requested": false} {
		if e := (&endpointRow{types: map[string]bool{types: true}}); e.takesHints() != want {
			t.Errorf("an endpoint of %s: %v", types, !want)
		}
	}
	if (&endpointRow{types: map[string]bool{"*": true}, failing: true}).takesHints() {
		t.Error("an endpoint that is failing")
	}
}
