package batch_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-chat/parley/internal/batch"
)

func TestCallsThatComeTogetherAreOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var sizes []int
		c := batch.NewCalls(100, 20, time.Minute, func(_ context.Context, keys []int) ([]int, error) {
			time.Sleep(time.Second)
			sizes = append(sizes, len(keys))
			if slices.Contains(keys, 13) {
				return nil, errors.New("thirteen")
			}
			out := slices.Clone(keys)
			for i := range out {
				out[i] *= 2
			}
			return out, nil
		})
		ctx, cancel := context.WithCancel(t.Context())
		var worker, callers sync.WaitGroup
		worker.Go(func() { _ = c.Run(ctx) })
		call := func(i int) {
			callers.Go(func() {
				if v, err := c.Call(t.Context(), i); err != nil || v != 2*i {
					t.Errorf("%d is answered %d, %v", i, v, err)
				}
			})
		}
		call(1)
		synctest.Wait()
		for i := 20; i < 50; i++ {
			call(i)
		}
		synctest.Wait() // they wait before the one that leaves
		left, leave := context.WithCancel(t.Context())
		callers.Go(func() {
			if _, err := c.Call(left, 2); !errors.Is(err, context.Canceled) {
				t.Errorf("one that left is answered %v", err)
			}
		})
		synctest.Wait()
		leave()
		callers.Wait()
		if !slices.Equal(sizes, []int{1, 20, 10}) {
			t.Errorf("the calls were of %v", sizes)
		}
		if _, err := c.Call(t.Context(), 13); err == nil {
			t.Error("an error is lost")
		}
		cancel()
		worker.Wait()
	})
}

func TestACallThatFindsNoRoomIsMadeAlone(t *testing.T) {
	t.Parallel()
	c := batch.NewCalls(0, 1, time.Minute, func(_ context.Context, keys []int) ([]int, error) { return keys, nil })
	if v, err := c.Call(t.Context(), 7); v != 7 || err != nil {
		t.Errorf("it is answered %d, %v", v, err)
	}
}

func TestAPanicAnswersItsCallers(t *testing.T) {
	t.Parallel()
	c := batch.NewCalls(1, 1, time.Minute, func(context.Context, []int) ([]int, error) { panic("oh") })
	go func() {
		defer func() { _ = recover() }()
		_ = c.Run(t.Context())
	}()
	if _, err := c.Call(t.Context(), 1); err == nil {
		t.Error("no error")
	}
}
