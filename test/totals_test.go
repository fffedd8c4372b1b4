package test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/testenv"
)

// life is a system in which people do things at random, beside a model of what they have not read.
type life struct {
	t      *testing.T
	s      *system
	rng    *rand.Rand // of the part in which one thing is done at a time
	people []*person
	rooms  []*room
	done   atomic.Int64 // operations
	// mu guards pods and worker, which are killed and started again.
	mu     sync.Mutex
	pods   [2]*pod
	worker *worker
}

func newLife(t *testing.T) *life {
	t.Helper()
	s := &system{
		t: t, pg: testenv.Postgres(t), redis: testenv.NewRedis(t, "--appendonly", "yes", "--appendfsync", "always"),
		extra: []string{"PARLEY_RATE_LIMIT_REACT=off"},
	}
	l := &life{t: t, s: s, rng: rand.New(rand.NewPCG(3, 4)), pods: [2]*pod{s.addPod(), s.addPod()}, worker: s.addWorker()}
	for i, u := range s.withTokens(t, 6) {
		l.people = append(l.people, &person{user: u, life: l, rng: rand.New(rand.NewPCG(5, uint64(i))), device: newCopy()}) //nolint:gosec // small
	}
	testenv.Exec(t, s.pg, `INSERT INTO friendships (user_id, friend_id, status) SELECT a.id, b.id, 'accepted' FROM users a, users b WHERE a.id <> b.id`)
	var others []user
	for _, p := range l.people[1:] {
		others = append(others, p.user)
	}
	for range 4 {
		l.rooms = append(l.rooms, newRoom(l.pods[0].group(t, l.people[0].user, others...).ID, l.people...))
	}
	for i := range 3 {
		a, b := l.people[i], l.people[i+1]
		l.rooms = append(l.rooms, newRoom(l.pods[0].direct(t, a.user, b.user).ID, a, b))
	}
	return l
}

func (l *life) pod(i int) *pod {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.pods[i%2]
}

// insist repeats a request, over both pods in turn, until it has one of the statuses: whatever it does may be repeated.
func (l *life) insist(u user, method, path string, body any, statuses ...int) answer {
	limit := testenv.NewLimit(time.Minute)
	for try := 0; ; try++ {
		a, err := l.pod(try+int(l.done.Load())).try(u.token, method, path, body)
		for _, s := range statuses {
			if err == nil && a.status == s {
				return a
			}
		}
		if err == nil && a.status != http.StatusServiceUnavailable || limit.Over() {
			l.t.Errorf("%s %s: %v %d %s", method, path, err, a.status, a.body)
			return a
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// together has everybody do n things, all at once, while something fails.
func (l *life) together(n int, fault func(progress func(share float64))) {
	from := l.done.Load()
	var wg sync.WaitGroup
	for _, p := range l.people {
		wg.Go(func() {
			for range n {
				p.act()
				l.done.Add(1)
			}
		})
	}
	fault(func(share float64) {
		until := from + int64(share*float64(n*len(l.people)))
		testenv.Eventually(l.t, 5*time.Minute, func() bool { return l.done.Load() >= until }, "people go on")
	})
	wg.Wait()
}

// faults are what happens while people go on.
func (l *life) faults() []func(progress func(share float64)) {
	killPod := func(i int) func(func(float64)) {
		return func(progress func(float64)) {
			progress(.3)
			l.pod(i).Kill()
			p := l.s.addPod()
			l.mu.Lock()
			l.pods[i] = p
			l.mu.Unlock()
		}
	}
	return []func(func(float64)){
		killPod(0),
		func(progress func(float64)) {
			progress(.2)
			l.s.redis.Stop()
			progress(.6)
			l.s.redis.Start()
		},
		func(progress func(float64)) {
			progress(.3)
			l.worker.Kill()
			progress(.6)
			l.worker = l.s.addWorker()
		},
		killPod(1),
		func(progress func(float64)) {
			progress(.2)
			l.s.redis.Pause()
			progress(.4)
			l.s.redis.Resume()
			progress(.6)
			l.s.redis.Stop()
			l.s.redis.Start()
		},
	}
}

// What everybody has not read equals a model's after any mix of operations, over two pods that are killed and a Redis that comes and goes;
// and so does a copy that is kept by sync alone. PARLEY_TEST_RUNS=10000 is the long run.
func TestTotalsEqualAModel(t *testing.T) {
	t.Parallel()
	if testenv.Engine() != "" {
		t.Skip("stops a Redis of its own")
	}
	l := newLife(t)
	n := testenv.Runs(t, 300)
	faults := l.faults()
	each := max(10, min(100, n/len(faults)/len(l.people)))
	for round := 0; l.done.Load() < int64(n); round++ {
		l.together(each, faults[round%len(faults)])
		if t.Failed() {
			return
		}
		for range 6 {
			l.alone()
		}
		l.check(fmt.Sprint("round ", round))
		if t.Failed() {
			return
		}
	}
	t.Logf("%d operations", l.done.Load())
}
