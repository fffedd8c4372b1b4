package batch_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/parley-chat/parley/internal/batch"
)

func Example() {
	b := batch.New(10, 4, func(batch []string) { fmt.Println(batch) })
	for _, x := range []string{"a", "b", "c", "d", "e"} {
		b.Offer(x)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	b.Run(ctx) // works on what is queued, and returns
	// Output:
	// [a b c d]
	// [e]
}

func TestWhatComesMeanwhileIsTheNextBatch(t *testing.T) {
	t.Parallel()
	var batches [][]int
	begun, goOn := make(chan struct{}), make(chan struct{})
	b := batch.New(8, 3, func(batch []int) {
		begun <- struct{}{}
		<-goOn
		batches = append(batches, slices.Clone(batch))
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); b.Run(ctx) }()
	b.Offer(1)
	<-begun
	for i := 2; i <= 5; i++ {
		b.Offer(i)
	}
	cancel() // what is queued is worked on all the same
	goOn <- struct{}{}
	for range 2 {
		<-begun
		goOn <- struct{}{}
	}
	<-done
	if want := [][]int{{1}, {2, 3, 4}, {5}}; !slices.EqualFunc(batches, want, slices.Equal[[]int]) {
		t.Errorf("the batches are %v, want %v", batches, want)
	}
}

func TestTheQueueIsBounded(t *testing.T) {
	t.Parallel()
	b := batch.New(2, 2, func([]int) {})
	if !b.Offer(1) || !b.Offer(2) || b.Offer(3) || b.Len() != 2 {
		t.Errorf("%d wait", b.Len())
	}
}

// A panic ends Run. The next one goes on with what waits.
func TestAPanicLosesOneBatch(t *testing.T) {
	t.Parallel()
	var worked []int
	b := batch.New(8, 2, func(batch []int) {
		if batch[0] == 1 {
			panic("oh")
		}
		worked = append(worked, batch...)
	})
	for i := 1; i <= 3; i++ {
		b.Offer(i)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	func() {
		defer func() { _ = recover() }()
		b.Run(ctx)
	}()
	b.Run(ctx)
	if !slices.Equal(worked, []int{3}) {
		t.Errorf("worked on %v", worked)
	}
}
