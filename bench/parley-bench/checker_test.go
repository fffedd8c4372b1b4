package main

import (
	"maps"
	"slices"
	"testing"
)

// event is what a listener meets.
type event struct {
	live   int64   // a message that came live
	sync   []int64 // a sync answer, complete
	socket bool    // a new socket
}

func live(seqs ...int64) (out []event) {
	for _, s := range seqs {
		out = append(out, event{live: s})
	}
	return out
}

func TestTheOrderOfOneSender(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct {
		clients []string
		want    int64
	}{
		"in order": {[]string{"run.9.a", "run.a.9", "run.zz.1", "run.100.0"}, 0},
		"a swap":   {[]string{"run.1.a", "run.3.a", "run.2.a", "run.4.a"}, 1},
		"reversed": {[]string{"run.3.a", "run.2.a", "run.1.a"}, 2},
	} {
		c, v := newConversation("c", 0), newViolations(func(string) {})
		for i, id := range x.clients {
			c.ack(v, int64(i+1), id)
		}
		c.checkOrder(v)
		if found, _ := v.found(); found["reordered"] != x.want {
			t.Errorf("%s: %v", name, found)
		}
	}
}

func TestTheCheckerSeesWhatIsWrong(t *testing.T) {
	t.Parallel()
	socket := []event{{socket: true}}
	for name, x := range map[string]struct {
		stream []event
		want   []string // kinds of violations
		lacks  int64    // of 5 acknowledged messages
	}{
		"all in order":                   {live(1, 2, 3, 4, 5), nil, 0},
		"a gap":                          {live(1, 2, 4, 5), []string{"gap"}, 1},
		"a gap at the start":             {live(2, 3, 4, 5), []string{"gap"}, 1},
		"a duplicate":                    {live(1, 2, 2, 3, 4, 5), []string{"duplicate"}, 0},
		"an old duplicate":               {live(1, 2, 3, 1, 4, 5), []string{"duplicate"}, 0},
		"a swap":                         {live(1, 3, 2, 4, 5), []string{"gap", "out of order"}, 0},
		"a lost end":                     {live(1, 2, 3), nil, 2},
		"a gap over a fault":             {slices.Concat(live(1, 2), socket, live(4, 5)), nil, 1},
		"sync fills it":                  {slices.Concat(live(1, 2), socket, []event{{sync: []int64{3}}}, live(4, 5)), nil, 0},
		"live before sync":               {slices.Concat(live(1, 2), socket, live(5), []event{{sync: []int64{3, 4}}}), nil, 0},
		"sync repeats what came live":    {slices.Concat(live(1, 2), socket, live(4), []event{{sync: []int64{3, 4}}}, live(5)), nil, 0},
		"live repeats what sync brought": {slices.Concat(live(1), socket, []event{{sync: []int64{2, 3}}}, live(3, 4, 5)), nil, 0},
		"sync with a hole":               {slices.Concat(live(1), socket, live(5), []event{{sync: []int64{2, 4}}}), []string{"gap"}, 1},
		"a gap after sync":               {slices.Concat(live(1), socket, []event{{sync: []int64{2}}}, live(4, 5)), []string{"gap"}, 1},
		"twice on the second socket":     {slices.Concat(live(1), socket, []event{{sync: []int64{2}}}, live(3, 3, 4, 5)), []string{"duplicate"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := newViolations(func(string) {})
			c := newConversation("c", 0)
			for seq := int64(1); seq <= 5; seq++ {
				c.ack(v, seq, string(rune('a'+seq)))
			}
			f := newFeed(c, "listener", 1)
			f.connected(true)
			for _, e := range x.stream {
				switch {
				case e.socket:
					f.connected(false)
				case e.sync != nil:
					f.sync(v, e.sync, 1+slices.Max(e.sync), true)
				default:
					f.message(v, e.live, 1+e.live)
				}
			}
			if got, _ := v.found(); !slices.Equal(slices.Sorted(maps.Keys(got)), x.want) {
				t.Errorf("found %v, want %v", got, x.want)
			}
			if got := f.lacks(); got != x.lacks {
				t.Errorf("lacks %d, want %d", got, x.lacks)
			}
		})
	}
}

func TestTheCheckerSeesWrongAcks(t *testing.T) {
	t.Parallel()
	type ack struct {
		seq    int64
		client string
	}
	for name, x := range map[string]struct {
		tried int
		acks  []ack
		want  []string
	}{
		"each its own":               {2, []ack{{11, "a"}, {12, "b"}}, nil},
		"the same twice":             {1, []ack{{11, "a"}, {11, "a"}}, nil},
		"one without an ack":         {3, []ack{{11, "a"}, {13, "b"}}, nil},
		"two of one seq":             {2, []ack{{11, "a"}, {11, "b"}}, []string{"seq given twice"}},
		"an old seq":                 {1, []ack{{10, "a"}}, []string{"seq given twice"}},
		"a message that nobody sent": {2, []ack{{11, "a"}, {13, "b"}}, []string{"more than was sent"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := newViolations(func(string) {})
			c := newConversation("c", 10)
			for range x.tried {
				c.try()
			}
			for _, a := range x.acks {
				c.ack(v, a.seq, a.client)
			}
			c.check(v)
			if got, _ := v.found(); !slices.Equal(slices.Sorted(maps.Keys(got)), x.want) {
				t.Errorf("found %v, want %v", got, x.want)
			}
		})
	}
}

// Where sync asks from must not run ahead of what is held: a message that came live before the answer says nothing of those
// before it.
func TestSyncAsksFromWhereNothingIsMissing(t *testing.T) {
	t.Parallel()
	v, c := newViolations(func(string) {}), newConversation("c", 0)
	f := newFeed(c, "listener", 1)
	f.connected(true)
	f.message(v, 1, 2)
	f.connected(false)
	f.message(v, 4, 5)
	if f.revision != 2 {
		t.Fatalf("asks from %d, want 2", f.revision)
	}
	f.sync(v, []int64{2}, 3, false)
	if f.revision != 3 || f.synced {
		t.Fatalf("asks from %d, synced %t", f.revision, f.synced)
	}
	f.sync(v, []int64{3, 4}, 5, true)
	if f.revision != 5 || !f.synced || f.held != 4 {
		t.Fatalf("asks from %d, synced %t, holds %d", f.revision, f.synced, f.held)
	}
}
