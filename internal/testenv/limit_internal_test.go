package testenv

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestALimitGrowsWithTheLoad(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		load load
		want time.Duration
	}{
		"an idle machine":                 {load{tasks: 0.1, cpu: 3, io: 5}, time.Second},
		"a task for each CPU":             {load{tasks: 1, cpu: 10}, time.Second},
		"five tasks for each CPU":         {load{tasks: 5}, 5 * time.Second},
		"a burst that the mean lags":      {load{tasks: 0.5, cpu: 90}, 4 * time.Second},
		"a slow disk":                     {load{tasks: 1, io: 60}, 4 * time.Second},
		"many tasks that wait":            {load{tasks: 7, cpu: 97}, 8 * time.Second},
		"a machine that comes to nothing": {load{tasks: 300, cpu: 100}, slowest * time.Second},
	} {
		if got := stretched(time.Second, c.load); got != c.want {
			t.Errorf("%s: a second becomes %s, want %s", name, got, c.want)
		}
	}
}

func TestALimitEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := NewLimit(time.Second)
		if l.Over() {
			t.Error("it is over at once")
		}
		checks := 0
		for !l.Over() {
			<-l.Check()
			checks++
		}
		if took := time.Since(l.begun); took < time.Second || took > slowest*time.Second+time.Second {
			t.Errorf("it ended after %s and %d checks", took, checks)
		}
	})
}

func TestThePauseBetweenTriesGrows(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := NewLimit(time.Minute)
		for _, step := range []struct{ wait, want time.Duration }{
			{0, 5 * time.Millisecond}, {100 * time.Millisecond, 5 * time.Millisecond}, {900 * time.Millisecond, 50 * time.Millisecond}, {time.Minute, 200 * time.Millisecond},
		} {
			time.Sleep(step.wait)
			if got := l.pause(); got != step.want {
				t.Errorf("after %s more the pause is %s, want %s", step.wait, got, step.want)
			}
		}
	})
}
