package budget_test

import (
	"fmt"
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
