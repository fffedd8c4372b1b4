package user

import (
	"fmt"
	"testing"
	"time"
)

func TestWhatIsRememberedGrowsOldAndIsBounded(t *testing.T) {
	t.Parallel()
	var o owns
	start := time.Now()
	o.put("a", remembered{stamp: "1", at: start})
	for _, c := range []struct {
		after time.Duration
		stamp string
		want  bool
	}{{0, "1", true}, {0, "2", false}, {ownAge - 1, "1", true}, {ownAge, "1", false}} {
		if _, ok := o.get("a", c.stamp, start.Add(c.after)); ok != c.want {
			t.Errorf("after %s with stamp %s it is remembered: %v", c.after, c.stamp, ok)
		}
	}
	for i := range 3 * maxOwn {
		o.put(fmt.Sprint(i), remembered{at: start.Add(ownAge * time.Duration(i/(2*maxOwn)))})
	}
	if n := len(o.young) + len(o.old); n > 2*maxOwn {
		t.Errorf("%d are remembered", n)
	}
	o.put("b", remembered{at: start.Add(9 * ownAge)})
	o.put("c", remembered{at: start.Add(19 * ownAge)})
	if len(o.young)+len(o.old) != 2 {
		t.Errorf("%d are remembered, want those of two generations", len(o.young)+len(o.old))
	}
}
