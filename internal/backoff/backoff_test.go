package backoff_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-chat/parley/internal/backoff"
)

func TestPausesDouble(t *testing.T) {
	t.Parallel()
	p := backoff.Policy{First: time.Second, Most: 30 * time.Second}
	for failures, want := range map[int]time.Duration{
		1: time.Second, 2: 2 * time.Second, 3: 4 * time.Second, 5: 16 * time.Second, 6: 30 * time.Second, 7: 30 * time.Second, 1 << 40: 30 * time.Second,
	} {
		seen := map[time.Duration]bool{}
		for range 100 {
			got := p.After(failures)
			if got < want*4/5 || got > want*6/5 {
				t.Fatalf("after %d failures the pause is %s, want %s, give or take a fifth", failures, got, want)
			}
			seen[got] = true
		}
		if len(seen) < 50 {
			t.Errorf("after %d failures only %d of 100 pauses differ", failures, len(seen))
		}
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		if !backoff.Wait(t.Context(), time.Minute) || time.Since(begun) != time.Minute {
			t.Errorf("waited %s of a minute", time.Since(begun))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if begun = time.Now(); backoff.Wait(ctx, time.Minute) || time.Since(begun) != time.Second {
			t.Errorf("waited %s, though the context ended after a second", time.Since(begun))
		}
	})
}
