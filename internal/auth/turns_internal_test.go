package auth

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alexedwards/argon2id"

	"github.com/parley-chat/parley/internal/testenv"
)

// own are the parameters that Parley ships with.
var own = *params

// TestMain makes passwords cheap: what is tested here hashes hundreds.
func TestMain(m *testing.M) {
	params = &argon2id.Params{Memory: 64, Iterations: 1, Parallelism: 1, SaltLength: 16, KeyLength: 32}
	os.Exit(m.Run())
}

// queued counts the turns that wait.
func (t *turns) queued() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.waiting
}

func (t *turns) queuedOf(subject string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.queues[subject])
}

// order notes the subjects in the order of their turns, while the first turn is held.
type order struct {
	t     *testing.T
	turns *turns
	wg    sync.WaitGroup
	mu    sync.Mutex
	got   []string
	busy  int
}

func (o *order) ask(ctx context.Context, subject string) {
	before := o.turns.queuedOf(subject)
	done := make(chan struct{})
	o.wg.Go(func() {
		defer close(done)
		release, err := o.turns.await(ctx, subject, 10)
		o.mu.Lock()
		if errors.Is(err, ErrBusy) {
			o.busy++
		} else {
			o.got = append(o.got, subject)
		}
		o.mu.Unlock()
		if err == nil {
			release()
		}
	})
	testenv.Eventually(o.t, 5*time.Second, func() bool {
		select {
		case <-done:
			return true
		default:
			return o.turns.queuedOf(subject) > before
		}
	}, "it waits or was refused")
}

func (o *order) hold() (release func()) {
	release, err := o.turns.await(o.t.Context(), "first", 10)
	if err != nil {
		o.t.Fatal(err)
	}
	return release
}

func TestTurnsRotate(t *testing.T) {
	t.Parallel()
	o := &order{t: t, turns: newTurns(10, 8)}
	o.turns.each = 4
	release := o.hold()
	for _, s := range strings.Fields("a a a a a a b b c a") {
		o.ask(t.Context(), s)
	}
	release()
	o.wg.Wait()
	if got := strings.Join(o.got, " "); got != "a b c a b a a" || o.busy != 3 {
		t.Errorf("turns %s, %d refused; want a b c a b a a and 3", got, o.busy)
	}
}

func TestAFullQueueMakesRoomForTheOthers(t *testing.T) {
	t.Parallel()
	const storms, each = 8, 8
	o := &order{t: t, turns: newTurns(10, 8)}
	release := o.hold()
	for i := range storms {
		for range each {
			o.ask(t.Context(), fmt.Sprintf("storm%d", i))
		}
	}
	if n := o.turns.queued(); n != maxWaiting {
		t.Fatalf("%d wait", n)
	}
	o.ask(t.Context(), "honest")
	release()
	o.wg.Wait()
	if !slices.Contains(o.got, "honest") || o.busy != 1 {
		t.Errorf("the honest one was refused: %v", o.got)
	}
	if i := slices.Index(o.got, "honest"); i > storms {
		t.Errorf("it was the %dth, want within one rotation", i+1)
	}
}

func TestOneEachCannotBeDisplaced(t *testing.T) {
	t.Parallel()
	o := &order{t: t, turns: newTurns(10, 8)}
	release := o.hold()
	for i := range maxWaiting {
		o.ask(t.Context(), fmt.Sprint(i))
	}
	o.ask(t.Context(), "late")
	release()
	o.wg.Wait()
	if o.busy != 1 || slices.Contains(o.got, "late") {
		t.Errorf("%d refused: %v", o.busy, o.got)
	}
}

func TestMemoryIsBoundedWhateverTheProcessors(t *testing.T) {
	t.Parallel()
	turns := newTurns(hashMemory, 1000)
	mib := mebibytes(&own)
	var releases []func()
	for i := 0; ; i++ {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		release, err := turns.await(ctx, fmt.Sprint(i), mib)
		cancel()
		if err != nil {
			break
		}
		releases = append(releases, release)
	}
	if n := len(releases); n*mib > hashMemory || (n+1)*mib <= hashMemory {
		t.Errorf("%d at once take %d of %d MiB", n, n*mib, hashMemory)
	}
	for _, r := range releases {
		r()
	}
	if turns.mib != hashMemory || turns.slots != 1000 || turns.running != 0 || turns.waiting != 0 || len(turns.queues)+len(turns.rotation) != 0 {
		t.Errorf("something is left: %+v", turns)
	}
}

func TestOneThatIsTooLargeRunsAlone(t *testing.T) {
	t.Parallel()
	turns := newTurns(10, 2)
	big, err := turns.await(t.Context(), "big", 50)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := turns.await(ctx, "small", 1); !errors.Is(err, ErrBusy) {
		t.Errorf("beside it: %v", err)
	}
	big()
	small, err := turns.await(t.Context(), "small", 1)
	if err != nil {
		t.Fatal(err)
	}
	small()
}

func TestWhoGivesUpLeavesTheTurnToOthers(t *testing.T) {
	t.Parallel()
	for range 200 { // so that some give up just as their turn comes
		o := &order{t: t, turns: newTurns(10, 8)}
		release := o.hold()
		ctx, cancel := context.WithCancel(t.Context())
		o.ask(ctx, "a")
		o.ask(t.Context(), "b")
		go cancel()
		release()
		o.wg.Wait()
		cancel()
		if !slices.Contains(o.got, "b") {
			t.Fatal("the one behind it never had its turn")
		}
		if o.turns.running != 0 || o.turns.mib != 10 {
			t.Fatalf("a turn was lost: %+v", o.turns)
		}
	}
}
