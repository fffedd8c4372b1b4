package test

import (
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/testenv"
)

// redisBehindProxy starts a Redis of one server and a proxy to it, whatever the engine of the tests is.
func redisBehindProxy(t *testing.T) (testenv.RedisEngine, *testenv.Proxy) {
	t.Helper()
	if testenv.Engine() == testenv.Cluster || testenv.Engine() == testenv.Sentinel {
		t.Skip("processes learn the addresses of the servers from Redis, and so go round a proxy")
	}
	e := testenv.NewRedis(t)
	addr := strings.TrimSuffix(strings.TrimPrefix(strings.TrimPrefix(e.Settings()[0], "PARLEY_REDIS_URL="), "redis://"), "/0")
	proxy := testenv.NewProxy(t, addr)
	return behind{e, proxy}, proxy
}

type behind struct {
	testenv.RedisEngine
	proxy *testenv.Proxy
}

func (b behind) Settings() []string {
	return []string{"PARLEY_REDIS_URL=redis://" + b.proxy.Addr() + "/0"}
}

// Everything between two pods and Redis goes into a black hole, as behind a NAT that forgot its entries: within seconds what only Redis
// carries comes through again, though no connection was ever reset.
func TestRedisInABlackHole(t *testing.T) {
	t.Parallel()
	redis, proxy := redisBehindProxy(t)
	s := &system{t: t, pg: testenv.Postgres(t), redis: redis}
	a, b := s.addPod(), s.addPod()
	u := a.users(t, 3)
	g := a.group(t, u[0], u[1:]...)
	from, to := a.open(t, u[0]), b.open(t, u[1])
	comes := func(within time.Duration, what string) {
		t.Helper()
		testenv.Eventually(t, within, func() bool {
			from.write(map[string]any{"type": "typing:stop", "data": map[string]any{"conversationId": g.ID}})
			from.write(map[string]any{"type": "typing:start", "data": map[string]any{"conversationId": g.ID}})
			for _, f := range to.rest(500 * time.Millisecond) {
				if f.Type == "typing" {
					return true
				}
			}
			return false
		}, "%s", what)
	}
	comes(10*time.Second, "typing comes")
	for name, fault := range map[string]func(){"swallowed": proxy.Swallow, "halved": proxy.Halve} {
		fault()
		comes(20*time.Second, "typing comes after the connections were "+name)
	}
	for i, p := range s.pods { // the one that only sends may notice later
		testenv.Eventually(t, 20*time.Second, func() bool {
			return metric(t, p.ops, "parley_subscriber_silent_total") >= 1 && metric(t, p.ops, "parley_subscriber_up") == 1
		}, "the metrics of pod %d show it", i)
		testenv.Eventually(t, 20*time.Second, func() bool {
			return strings.Contains(p.Logs(), "the subscription to redis is lost") && strings.Contains(p.Logs(), "the subscription to redis is established again")
		}, "the log of pod %d shows it", i)
	}
	a.send(t, u[0], g.ID, "a message")
	to.until("message:new", 10*time.Second)
}

// Postgres swallows what pods send for a while, new connections too, as a firewall that lost its state does.
func TestPostgresInABlackHole(t *testing.T) {
	t.Parallel()
	pg := testenv.PostgresServer(t)
	s, proxy := behindProxy(t, pg)
	p := s.addPod()
	u := p.users(t, 2)
	c := p.direct(t, u[0], u[1])
	proxy.Swallow() // what is open; new connections pass
	start := time.Now()
	testenv.Eventually(t, time.Minute, func() bool {
		a := p.call(t, u[0].token, "POST", "/api/conversations/"+c.ID+"/messages", map[string]any{"content": "x"})
		if a.status != 201 && a.status != 503 {
			t.Fatalf("a send into a black hole: %d %s", a.status, a.body)
		}
		return a.status == 201
	}, "the connections are replaced")
	t.Logf("a send succeeded after %s", time.Since(start).Round(time.Millisecond))
	proxy.SwallowAll()
	testenv.Eventually(t, time.Minute, func() bool { return p.ready(t) == 503 }, "the pod says so")
	if a := p.call(t, u[0].token, "GET", "/api/conversations", nil); a.status != 503 || a.header.Get("Retry-After") == "" {
		t.Errorf("a request into a black hole: %d %s", a.status, a.body)
	}
	proxy.Mend()
	testenv.Eventually(t, time.Minute, func() bool { return p.ready(t) == 200 }, "the pod is ready again")
	p.send(t, u[0], c.ID, "after it")
}

// What was accepted while Redis was unavailable reaches live sockets once it is back, as messages do: receipts and markers, in direct
// conversations and groups, privacy, and friends.
func TestWhatWasAcceptedWithoutRedisReachesLiveSockets(t *testing.T) {
	t.Parallel()
	s := start(t, 2, presenceTimes...)
	s.addWatcher()
	a, b := s.pods[0], s.pods[1]
	u := a.users(t, 5)
	direct, group := a.direct(t, u[0], u[1]), a.group(t, u[0], u[1:]...)
	in := map[string]message{direct.ID: a.send(t, u[0], direct.ID, "direct"), group.ID: a.send(t, u[0], group.ID, "group")}
	other, hiding := a.openAs(t, u[1], "other"), b.openAs(t, u[2], "hiding")
	blocking := b.openAs(t, u[4], "blocking")
	defer hiding.cut()
	defer blocking.cut()
	for _, x := range []user{u[2], u[4]} { // a socket is ready before its user is online
		a.becomes(t, u[0], x.ID, "online", 10*time.Second)
	}
	sender := a.open(t, u[0])
	if p := sender.watch(u[2].ID, u[4].ID); p[0].Status != "online" || p[1].Status != "online" {
		t.Fatalf("the presence is %v", p)
	}
	s.redis.Stop()
	for _, m := range in {
		testenv.Eventually(t, time.Minute, func() bool {
			return b.call(t, u[1].token, "POST", "/api/messages/"+m.ID+"/read", nil).status == 204
		}, "the read is taken")
	}
	b.want(t, 200, u[2].token, "PATCH", "/api/users/me/privacy", map[string]any{"presenceSharing": "nobody"})
	b.want(t, 204, u[4].token, "PUT", "/api/blocks/"+u[0].ID, nil)
	b.want(t, 200, u[1].token, "PATCH", "/api/users/me", map[string]any{"displayName": "Renamed"})
	b.ask(t, u[3], u[0], 201)
	time.Sleep(2 * time.Second) // pods find out
	s.redis.Start()

	wanted := map[string]bool{"receipt " + direct.ID: true, "receipt " + group.ID: true, "hidden": true, "blocked": true, "renamed": true, "friend": true}
	testenv.Eventually(t, 30*time.Second, func() bool {
		for _, f := range sender.rest(100 * time.Millisecond) {
			var x struct{ ConversationID, UserID string }
			switch f.Type {
			case "receipt:read":
				f.into(t, &x)
				delete(wanted, "receipt "+x.ConversationID)
			case "presence:offline":
				f.into(t, &x)
				delete(wanted, map[string]string{u[2].ID: "hidden", u[4].ID: "blocked"}[x.UserID])
			case "user:updated":
				delete(wanted, "renamed")
			case "friend:requested":
				delete(wanted, "friend")
			}
		}
		return len(wanted) == 0
	}, "the sender's socket hears all but %v", wanted)
	markers := map[string]bool{direct.ID: true, group.ID: true}
	testenv.Eventually(t, 30*time.Second, func() bool {
		for _, f := range other.rest(100 * time.Millisecond) {
			if f.Type == "conversation:read" {
				var x struct{ ConversationID string }
				f.into(t, &x)
				delete(markers, x.ConversationID)
			}
		}
		return len(markers) == 0
	}, "the reader's other socket hears all but %v", markers)
}
