package test

import (
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/testenv"
)

func limitHeaders(t *testing.T, a answer) (limit, remaining, reset int) {
	t.Helper()
	n := func(name string) int {
		v, err := strconv.Atoi(a.header.Get(name))
		if err != nil {
			t.Fatalf("%d: %s is %q", a.status, name, a.header.Get(name))
		}
		return v
	}
	return n("X-RateLimit-Limit"), n("X-RateLimit-Remaining"), n("X-RateLimit-Reset")
}

func TestOneLimitOverTwoPods(t *testing.T) {
	t.Parallel()
	s := start(t, 2, "PARLEY_RATE_LIMIT_DEFAULT=100/1h")
	s.countedInRedis(t, func() string {
		ok, refused := s.burst(t, s.pods[0].register(t))
		if ok == 100 && refused == 60 {
			return ""
		}
		return fmt.Sprintf("%d passed and %d were refused, want 100 and 60", ok, refused)
	})
	other := s.pods[0].register(t)
	s.pods[1].want(t, 200, other.token, "GET", "/api/users/me", nil)
}

// countedInRedis tries something that depends on limits, and fails the test with the fault that try returns. It tries again, which needs
// other users, if a pod counted in its own memory meanwhile, as on a machine that is so busy that Redis is taken to be unavailable.
func (s *system) countedInRedis(t *testing.T, try func() (fault string)) {
	t.Helper()
	sum := func(name string) (n float64) {
		for _, p := range s.pods {
			n += metric(t, p.ops, name)
		}
		return n
	}
	for {
		testenv.Eventually(t, time.Minute, func() bool { return sum("parley_rate_limit_fallback") == 0 }, "the pods count in Redis")
		fell := sum("parley_rate_limit_fallbacks_total")
		fault := try()
		if fell != sum("parley_rate_limit_fallbacks_total") {
			continue
		}
		if fault != "" {
			t.Error(fault)
		}
		return
	}
}

// burst makes 160 requests of a user's at once, over two pods, and answers what became of them.
func (s *system) burst(t *testing.T, u user) (passed, refused int64) {
	t.Helper()
	var ok, limited atomic.Int64
	var wg sync.WaitGroup
	for i := range 160 {
		wg.Go(func() {
			a, err := s.pods[i%2].try(u.token, "GET", "/api/users/me", nil)
			switch {
			case err != nil:
				t.Error(err)
			case a.status == 200:
				ok.Add(1)
			case a.status == 429 && a.header.Get("Retry-After") != "" && a.code() == "rate_limited":
				limited.Add(1)
			default:
				t.Errorf("%d %s", a.status, a.body)
			}
		})
	}
	wg.Wait()
	return ok.Load(), limited.Load()
}

func TestEveryAnswerOfALimitedRouteSaysWhatIsLeft(t *testing.T) {
	t.Parallel()
	s := start(t, 1, "PARLEY_RATE_LIMIT_DEFAULT=100/1h", "PARLEY_RATE_LIMIT_AUTH=5/15m", "PARLEY_RATE_LIMIT_SOCKET=3/1m")
	p := s.pods[0]
	left := 5
	for _, body := range []string{`{}`, `{"username":"anna.limit","password":"correct horse battery"}`, `nonsense`} {
		left--
		a := p.call(t, "", "POST", "/api/auth/register", body)
		if l, r, _ := limitHeaders(t, a); l != 5 || r != left {
			t.Errorf("%s: %d of %d left, want %d of 5", body, r, l, left)
		}
	}
	for range 2 {
		p.call(t, "", "POST", "/api/auth/register", `{}`)
	}
	a := p.want(t, 429, "", "POST", "/api/auth/register", `{}`)
	if _, r, reset := limitHeaders(t, a); r != 0 || reset < 880 || reset > 900 {
		t.Errorf("at the limit: %d left, whole in %d s", r, reset)
	}
	if after, _ := strconv.Atoi(a.header.Get("Retry-After")); after < 160 || after > 180 {
		t.Errorf("Retry-After is %d s, want three minutes", after)
	}
	limitHeaders(t, p.want(t, 401, "", "POST", "/api/auth/login", `{"username":"anna.limit","password":"no"}`)) // a bucket of its own
	limitHeaders(t, p.want(t, 401, "", "GET", "/api/users/me", nil))
	limitHeaders(t, p.want(t, 404, "", "GET", "/api/nothing", nil))
	limitHeaders(t, p.want(t, 405, "", "PUT", "/api/users/me", `{}`))
	if p.want(t, 200, "", "GET", "/api/health", nil).header.Get("X-RateLimit-Limit") != "" {
		t.Error("health is limited")
	}
	for range 3 {
		limitHeaders(t, p.want(t, 426, "", "GET", "/api/ws", nil))
	}
	p.want(t, 429, "", "GET", "/api/ws", nil)
}

func TestWhoseAddressCounts(t *testing.T) {
	t.Parallel()
	s := start(t, 1, "PARLEY_RATE_LIMIT_AUTH=5/15m")
	behind := s.addPod("PARLEY_TRUSTED_PROXIES=127.0.0.0/8,10.0.0.0/8")
	attempt := 0
	login := func(p *pod, forwarded string) int {
		attempt++ // a username each: each has a limit
		body := map[string]any{"username": fmt.Sprint("nobody", attempt), "password": "wrong password"}
		return p.call(t, "", "POST", "/api/auth/login", body, "X-Forwarded-For", forwarded).status
	}
	count := func(p *pod, n int, forwarded func(i int) string) (refused int) {
		for i := range n {
			if login(p, forwarded(i)) == 429 {
				refused++
			}
		}
		return refused
	}
	if n := count(s.pods[0], 8, func(i int) string { return fmt.Sprintf("198.51.100.%d", i) }); n != 3 {
		t.Errorf("8 logins with spoofed addresses by way of nobody trusted: %d refused, want 3", n)
	}
	if n := count(behind, 8, func(i int) string { return fmt.Sprintf("203.0.113.%d", i) }); n != 0 {
		t.Errorf("8 clients behind a trusted proxy: %d refused, want none", n)
	}
	if n := count(behind, 8, func(i int) string { return fmt.Sprintf("192.0.2.%d, 198.18.0.7, 10.1.2.3", i) }); n != 3 {
		t.Errorf("8 logins of one client that invents hops: %d refused, want 3", n)
	}
	if n := count(behind, 8, func(i int) string { return fmt.Sprintf("2001:db8:1:2::%d", i) }); n != 3 {
		t.Errorf("8 logins of one IPv6 subscriber: %d refused, want 3", n)
	}
}

func TestAUsernameIsGuardedWhereverTheGuessesComeFrom(t *testing.T) {
	t.Parallel()
	s := start(t, 2, "PARLEY_RATE_LIMIT_AUTH=5/15m", "PARLEY_TRUSTED_PROXIES=127.0.0.0/8")
	tries := 0
	for what, exists := range map[string]bool{"guarded": true, "never.registered": false} {
		s.countedInRedis(t, func() string {
			tries++
			name, statuses := fmt.Sprint(what, tries), map[int]int{}
			if exists {
				s.pods[0].want(t, 201, "", "POST", "/api/auth/register", map[string]any{"username": name, "password": password},
					"X-Forwarded-For", fmt.Sprintf("203.0.113.%d", tries))
			}
			for i := range 25 {
				a := s.pods[i%2].call(t, "", "POST", "/api/auth/login", map[string]any{"username": name, "password": "wrong password"},
					"X-Forwarded-For", fmt.Sprintf("198.51.%d.%d", tries, i))
				statuses[a.status]++
			}
			if statuses[401] == 20 && statuses[429] == 5 {
				return ""
			}
			return fmt.Sprintf("%s: %v, want 20 times 401 and 5 times 429", name, statuses)
		})
	}
}

func TestSendingIsOneLimitForRESTAndSockets(t *testing.T) {
	t.Parallel()
	s := start(t, 2, "PARLEY_RATE_LIMIT_SEND=10/1h")
	u := s.pods[0].users(t, 3)
	c := s.pods[0].group(t, u[0], u[1:]...)
	sock := s.pods[1].open(t, u[0])
	bySocket := func(key int) frame {
		return sock.ask("message:send", map[string]any{"conversationId": c.ID, "content": "by socket", "clientMessageId": fmt.Sprint(key)})
	}
	for i := range 5 {
		s.pods[0].send(t, u[0], c.ID, "by REST")
		if f := bySocket(i); f.Type != "ack" {
			t.Fatalf("send %d by socket: %s %s", i, f.Type, f.Data)
		}
	}
	var p problem
	if f := bySocket(5); f.Type != "error" {
		t.Errorf("the eleventh by socket: %s %s", f.Type, f.Data)
	} else if f.into(t, &p); p.Code != "rate_limited" || p.Status != 429 || p.RetryAfterSeconds < 1 || p.RetryAfterSeconds > 360 {
		t.Errorf("the error is %+v", p)
	}
	a := s.pods[0].call(t, u[0].token, "POST", "/api/conversations/"+c.ID+"/messages", map[string]any{"content": "x"})
	if wait := a.problem(t).RetryAfterSeconds; a.status != 429 || fmt.Sprint(wait) != a.header.Get("Retry-After") {
		t.Errorf("the eleventh: %d %s", a.status, a.body)
	}
	s.pods[0].send(t, u[1], c.ID, "another sender")
}

func TestLimitsHoldPerProcessWhileRedisIsAway(t *testing.T) {
	t.Parallel()
	s := start(t, 1, "PARLEY_RATE_LIMIT_DEFAULT=10/1h")
	p := s.pods[0]
	u := p.register(t)
	p.want(t, 200, u.token, "GET", "/api/users/me", nil)
	s.redis.Stop()
	p.call(t, u.token, "GET", "/api/users/me", nil) // may be the one that finds out
	statuses := map[int]int{}
	for range 14 {
		statuses[p.call(t, u.token, "GET", "/api/users/me", nil).status]++
	}
	if statuses[200] < 9 || statuses[429] < 4 || statuses[200]+statuses[429] != 14 {
		t.Errorf("without Redis: %v", statuses)
	}
	if scrape(t, p.ops).value("parley_rate_limit_fallback") != 1 {
		t.Error("the pod still asks Redis")
	}
	s.redis.Start()
	testenv.Eventually(t, 10*time.Second, func() bool { // Redis forgot; the bucket is whole there
		return p.call(t, u.token, "GET", "/api/users/me", nil).status == http.StatusOK
	}, "the limits are Redis's again")
}

// A page that refreshes at each load is not locked out at its sixth reload, and a session is limited whatever its address.
func TestRefreshIsLimitedBySession(t *testing.T) {
	t.Parallel()
	s := start(t, 1, "PARLEY_RATE_LIMIT_AUTH=5/15m", "PARLEY_RATE_LIMIT_REFRESH=8/15m", "PARLEY_TRUSTED_PROXIES=127.0.0.0/8")
	p := s.pods[0]
	u := p.register(t)
	token := u.refresh
	for i := range 8 {
		a := p.want(t, 200, "", "POST", "/api/auth/refresh", map[string]any{"refreshToken": token}, "X-Forwarded-For", fmt.Sprintf("198.51.100.%d", i))
		if l, left, _ := limitHeaders(t, a); l != 8 || left != 7-i {
			t.Errorf("refresh %d: %d of %d left", i, left, l)
		}
		var next pair
		a.into(t, &next)
		token = next.RefreshToken
	}
	p.want(t, 429, "", "POST", "/api/auth/refresh", map[string]any{"refreshToken": token}, "X-Forwarded-For", "198.51.100.99")
	other := p.register(t)
	p.want(t, 200, "", "POST", "/api/auth/refresh", map[string]any{"refreshToken": other.refresh})
}
