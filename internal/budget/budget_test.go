package budget_test

import (
	"fmt"
	"math"
	"runtime/debug"
	"sync"
	"testing"

	"github.com/parley-chat/parley/internal/budget"
)

func TestShares(t *testing.T) {
	t.Parallel()
	b := budget.New(100, 40)
	for i, step := range []struct {
		owner string
		take  int64
		ok    bool
	}{{"a", 30, true}, {"a", 11, false}, {"a", 10, true}, {"b", 40, true}, {"c", 21, false}, {"c", 20, true}, {"d", 1, false}} {
		if b.Take(step.owner, step.take) != step.ok {
			t.Errorf("step %d: %+v", i, step)
		}
	}
	b.Give("a", 40)
	if !b.Take("a", 40) || b.Used() != 100 {
		t.Errorf("what was given back can't be taken again: %d are used", b.Used())
	}
}

func TestNothingIsLostBetweenGoroutines(t *testing.T) {
	t.Parallel()
	b := budget.New(1000, 100)
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			owner := fmt.Sprint(i % 16)
			for range 1000 {
				if b.Take(owner, 30) {
					b.Give(owner, 30)
				}
			}
		})
	}
	wg.Wait()
	if b.Used() != 0 {
		t.Errorf("%d bytes are lost", b.Used())
	}
}

// A process's budget is a quarter of its memory limit, within bounds, and a fixed one without a limit. It is not parallel, because the
// limit is the process's.
func TestTheBudgetOfAProcessFollowsItsMemoryLimit(t *testing.T) {
	was := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(was)
	for _, c := range []struct{ limit, want int64 }{
		{math.MaxInt64, 256 << 20}, {512 << 20, 128 << 20}, {64 << 20, 32 << 20}, {64 << 30, 1 << 30},
	} {
		debug.SetMemoryLimit(c.limit)
		b := budget.OfProcess()
		if b.Total() != c.want {
			t.Errorf("with a limit of %d it is %d, want %d", c.limit, b.Total(), c.want)
		}
		if !b.Take("a", budget.Share) || b.Take("a", 1) || !b.Take("b", 1) {
			t.Error("an owner's share is not kept")
		}
	}
}

// What an owner gave back is forgotten, so that the number of owners over time costs nothing.
func TestOwnersWithoutMemoryAreForgotten(t *testing.T) {
	t.Parallel()
	b := budget.New(100, 40)
	b.Give("never took", 0)
	if !b.Take("a", 40) {
		t.Fatal("there is no room")
	}
	b.Give("a", 40)
	if b.Used() != 0 || !b.Take("a", 40) || b.Take("a", 1) {
		t.Errorf("after everything was given back, the share is another one; %d are used", b.Used())
	}
}
