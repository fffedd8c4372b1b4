package test

import (
	"database/sql"
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/testenv"
)

// Two pods on a cluster of three masters publish to sharded channels while people write. The connection to the master that has a
// conversation's channel leads nowhere, its slot moves, the master dies, and a pod joins that hears plain channels only, as
// those of earlier releases do. Every socket hears every change once, in order.
func TestShardedChannelsBringEveryEventOnce(t *testing.T) {
	t.Parallel()
	if testenv.Engine() != "" {
		t.Skip("it brings its own engine")
	}
	g := testenv.RedisCluster(t, 1)
	proxies := g.Behind(t)
	s := &system{t: t, pg: testenv.Postgres(t), redis: g}
	a, b := s.addPod(), s.addPod()
	u := a.users(t, 3)
	c := a.group(t, u[0], u[1:]...)
	channel := "parley:conversation:" + c.ID
	s.awaitSharded(t, 1)
	watches := map[string]*seen{
		"a socket of the first pod":  watch(t, "first", a.open(t, u[1]), c.Revision),
		"a socket of the second pod": watch(t, "second", b.open(t, u[2]), c.Revision),
	}
	hearing := g.Owner(t, channel).Client(t)
	testenv.Eventually(t, 20*time.Second, func() bool {
		return hearing.PubSubShardNumSub(t.Context(), channel).Val()[channel] == 2
	}, "both pods hear the conversation's sharded channel")

	traffic := s.sendingEvery(50*time.Millisecond, u[0], c.ID)
	s.goesOn(t, c.ID, watches, "before anything happens")
	owner := g.Owner(t, channel)
	for i, n := range g.Nodes {
		if n == owner {
			silent := metric(t, a.ops, "parley_subscriber_silent_total")
			proxies[i].Swallow()
			testenv.Eventually(t, time.Minute, func() bool { return metric(t, a.ops, "parley_subscriber_silent_total") > silent }, "the first pod notices the silence")
		}
	}
	s.goesOn(t, c.ID, watches, "after a silent connection")
	s.awaitSharded(t, 1)

	to := g.Nodes[0]
	if to == owner {
		to = g.Nodes[1]
	}
	g.MoveSlot(t, channel, owner, to)
	testenv.Eventually(t, time.Minute, func() bool {
		return to.Client(t).PubSubShardNumSub(t.Context(), channel).Val()[channel] == 2
	}, "both pods hear the channel on its new node")
	s.goesOn(t, c.ID, watches, "after the slot moved")
	s.awaitSharded(t, 1)

	g.Owner(t, channel).Stop()
	s.goesOn(t, c.ID, watches, "without a master")
	s.awaitSharded(t, 1) // a replica took over
	s.goesOn(t, c.ID, watches, "after the failover")
	traffic.end(t)
	checkWatches(t, s, c.ID, watches)

	plain := s.addPod("PARLEY_REDIS_PUBSUB=plain")
	s.awaitSharded(t, 0)
	watches["a socket of the plain pod"] = watch(t, "plain", plain.openAs(t, u[1], "plain"), s.revision(t, c.ID))
	for _, p := range s.pods {
		p.send(t, u[0], c.ID, "while there is a plain pod")
	}
	checkWatches(t, s, c.ID, watches)
	for _, p := range []*pod{a, plain} { // what is not repaired
		from, other := p.openAs(t, u[0], "typing"), map[*pod]*pod{a: plain, plain: a}[p]
		to := other.openAs(t, u[2], "reading")
		from.write(map[string]any{"type": "typing:start", "data": map[string]any{"conversationId": c.ID}})
		to.until("typing", 20*time.Second)
		from.write(map[string]any{"type": "typing:stop", "data": map[string]any{"conversationId": c.ID}})
		to.until("typing", 20*time.Second)
	}
	plain.Kill()
	delete(watches, "a socket of the plain pod")
	s.pods = s.pods[:2]
	s.awaitSharded(t, 1)
	b.send(t, u[0], c.ID, "the last")
	checkWatches(t, s, c.ID, watches)
}

// awaitSharded waits until no pod, or every pod, publishes to sharded channels; one that may not never does.
func (s *system) awaitSharded(t *testing.T, want float64) {
	t.Helper()
	testenv.Eventually(t, 2*time.Minute, func() bool {
		for _, p := range s.pods {
			if metric(t, p.ops, "parley_publish_sharded") != want {
				return false
			}
		}
		return true
	}, "parley_publish_sharded is %v on all pods", want)
}

// goesOn waits until every socket hears of a change that is made from now on.
func (s *system) goesOn(t *testing.T, conversationID string, watches map[string]*seen, when string) {
	t.Helper()
	now := s.revision(t, conversationID)
	for name, w := range watches {
		testenv.Eventually(t, time.Minute, func() bool { return w.reached() > now }, "%s hears of changes %s", name, when)
	}
}

func (s *system) revision(t *testing.T, conversationID string) (out int64) {
	t.Helper()
	db, err := sql.Open("pgx", s.pg)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.QueryRow(`SELECT revision FROM conversations WHERE id = $1`, conversationID).Scan(&out); err != nil {
		t.Fatal(err)
	}
	return out
}

// A cluster whose user may not use sharded channels, as one before Redis 7, is used as ever.
func TestACommandThatTheClusterRefuses(t *testing.T) {
	t.Parallel()
	if testenv.Engine() != "" {
		t.Skip("it brings its own engine")
	}
	g := testenv.RedisCluster(t, 0)
	for _, n := range g.Nodes {
		if err := n.Client(t).Do(t.Context(), "acl", "setuser", "default", "-ssubscribe", "-spublish").Err(); err != nil {
			t.Fatal(err)
		}
	}
	s := &system{t: t, pg: testenv.Postgres(t), redis: g}
	a, b := s.addPod(), s.addPod()
	u := a.users(t, 2)
	c := a.direct(t, u[0], u[1])
	to := b.open(t, u[1])
	m := a.send(t, u[0], c.ID, "hello")
	to.messages(m.Seq, m.Seq, time.Minute)
	for _, p := range s.pods {
		testenv.Eventually(t, time.Minute, func() bool {
			return strings.Contains(p.Logs(), "the cluster refuses sharded channels") && metric(t, p.ops, "parley_subscriber_up") == 1
		}, "the log says so")
	}
	owner := g.Owner(t, "parley:conversation:"+c.ID).Client(t)
	if n := len(owner.PubSubShardChannels(t.Context(), "*").Val()); n != 0 {
		t.Errorf("%d sharded channels are subscribed", n)
	}
}
