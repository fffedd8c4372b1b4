package test

import (
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/testenv"
)

// storm is a group whose members write without a pause, half by sockets and half by REST, while something dies. What gets no
// answer is sent again under its clientMessageId, to another pod.
type storm struct {
	s      *system
	users  []user
	group  conversation
	ledger ledger
	// pods is where a sender sends, and where it repeats what had no answer.
	pods func(sender int) (first, other *pod)

	unanswered atomic.Int64 // sends
	found      atomic.Int64 // those of them that were stored all the same
	stop       chan struct{}
	wg         sync.WaitGroup
	listeners  []*voice
}

// newStorm makes the group. Each of the pods has two listeners.
func newStorm(t testing.TB, s *system, senders int) *storm {
	t.Helper()
	x := &storm{s: s, users: s.withTokens(t, senders), stop: make(chan struct{})}
	x.group = s.pods[0].group(t, x.users[0], x.users[1:]...)
	for i := range 2 * len(s.pods) {
		x.listeners = append(x.listeners, &voice{socket: s.pods[i%len(s.pods)].open(t, x.users[i])})
	}
	return x
}

func (x *storm) start(t testing.TB) {
	for i := range x.users {
		x.wg.Go(func() {
			if err := x.write(t, i); err != nil {
				t.Error(err)
			}
		})
	}
}

// goesOn waits until some more messages, at random how many, are stored.
func (x *storm) goesOn(t testing.TB) {
	t.Helper()
	want := x.ledger.len() + 100 + rand.IntN(100)
	testenv.Eventually(t, 2*time.Minute, func() bool { return t.Failed() || x.ledger.len() >= want }, "messages are stored")
}

// end stops the senders, and checks that each message is stored once, and heard once and in order.
func (x *storm) end(t testing.TB) {
	t.Helper()
	close(x.stop)
	x.wg.Wait()
	stored := x.ledger.check(t, x.s, x.s.pods[0], x.users[0], x.group.ID)
	for i, v := range x.listeners {
		if err := v.heardAll(stored); err != nil {
			t.Errorf("listener %d: %v", i, err)
		}
	}
	if x.unanswered.Load() == 0 {
		t.Error("every send was answered: nothing died in the middle of one")
	}
	t.Logf("%d messages, %d sends had no answer, %d of them were stored", len(stored), x.unanswered.Load(), x.found.Load())
}

// write sends one message after the other until the storm is to stop.
func (x *storm) write(t testing.TB, sender int) error {
	w := &stormSender{storm: x, number: sender}
	for n := 0; ; n++ {
		select {
		case <-x.stop:
			return nil
		default:
		}
		key := fmt.Sprintf("%d-%d", sender, n)
		m, err := w.send(t, key)
		if err == nil {
			err = x.ledger.note(key, m)
		}
		if err != nil {
			return err
		}
	}
}

// stormSender is one of a storm's members. Those with an even number send by a socket if their pod takes one.
type stormSender struct {
	*storm
	number int
	on     *pod // where it opened the socket, or tried to
	voice  *voice
}

// send sends a message, and repeats it at the other pod if there is no answer.
func (w *stormSender) send(t testing.TB, key string) (message, error) {
	first, other := w.pods(w.number)
	body := map[string]any{"content": key, "clientMessageId": key}
	m, err := w.sendOnce(t, first, body)
	if !errors.Is(err, errNoAnswer) {
		return m, err
	}
	w.unanswered.Add(1)
	w.on, w.voice = nil, nil
	m, stored, err := other.sendAgain(w.users[w.number], w.group.ID, body)
	if stored {
		w.found.Add(1)
	}
	return m, err
}

// sendOnce sends by the socket, or by REST without one.
func (w *stormSender) sendOnce(t testing.TB, p *pod, body map[string]any) (m message, err error) {
	u := w.users[w.number]
	if w.on != p && w.number%2 == 0 {
		w.on, w.voice = p, p.voice(t, u)
	}
	if w.voice == nil {
		m, _, err = p.sendOnce(u, w.group.ID, body)
		return m, err
	}
	toGroup := maps.Clone(body)
	toGroup["conversationId"] = w.group.ID
	return w.voice.send(toGroup)
}

// voice opens a socket, nil where the pod takes none.
func (p *pod) voice(t testing.TB, u user) *voice {
	sock, err := p.dial(t, "/api/ws", http.Header{"Authorization": {"Bearer " + u.token}})
	if err != nil {
		return nil
	}
	return &voice{socket: sock}
}

// A pod is killed again and again, between a commit and its publish and at other instants, with the sends of many people in flight.
func TestPodsKilledInGroupCommits(t *testing.T) {
	t.Parallel()
	s := start(t, 1)
	refuge := s.pods[0]
	x := newStorm(t, s, 32)
	trigger := filepath.Join(t.TempDir(), "now")
	var doomed atomic.Pointer[pod]
	revive := func() {
		_ = os.Remove(trigger)
		doomed.Store(s.addPod("PARLEY_FAULT=message.committed=kill:" + trigger))
	}
	revive()
	x.pods = func(int) (first, other *pod) { return doomed.Load(), refuge }
	x.start(t)
	for round := range 4 {
		x.goesOn(t)
		if round%2 == 0 {
			if err := os.WriteFile(trigger, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			doomed.Load().Wait(time.Minute)
		} else {
			doomed.Load().Kill()
		}
		x.goesOn(t)
		revive()
	}
	x.goesOn(t)
	x.end(t)
	if x.found.Load() == 0 {
		t.Error("no pod died between a commit and its answers")
	}
}

// Postgres loses a process in the middle of a group commit, and all of them, and comes back.
func TestPostgresKilledInGroupCommits(t *testing.T) {
	t.Parallel()
	pg := testenv.PostgresServer(t)
	s := &system{t: t, pg: pg.URL(), redis: testenv.NewRedis(t)}
	s.addPod()
	s.addPod()
	x := newStorm(t, s, 32)
	x.pods = func(i int) (first, other *pod) { return s.pods[i%2], s.pods[(i+1)%2] }
	x.start(t)
	for round := range 4 {
		x.goesOn(t)
		if round%2 == 0 {
			killCommit(t, s.pg)
		} else {
			pg.Stop()
			pg.Start()
		}
	}
	x.goesOn(t)
	x.end(t)
}

// killCommit kills the process of Postgres that stores a batch.
func killCommit(t testing.TB, url string) {
	t.Helper()
	db, err := sql.Open("pgx", url)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	testenv.Eventually(t, time.Minute, func() bool {
		var pid int
		err := db.QueryRow(`SELECT pid FROM pg_stat_activity WHERE application_name = 'parley-api' AND backend_xid IS NOT NULL LIMIT 1`).Scan(&pid)
		return err == nil && syscall.Kill(pid, syscall.SIGKILL) == nil
	}, "something is being written")
}
