package test

import (
	"fmt"
	"sync"
	"testing"
)

// Wrong passwords of the user's own account are guesses too, wherever they are sent, and however many at once.
func TestWrongPasswordsOfOnesOwnAreLimited(t *testing.T) {
	t.Parallel()
	s := start(t, 2, "PARLEY_RATE_LIMIT_AUTH=1000/15m")
	s.countedInRedis(t, func() string {
		u := s.pods[0].register(t)
		statuses := map[int]int{}
		for round := 0; round < 20 && statuses[429] == 0; round++ {
			s.guessAtOnce(t, u, 8, statuses)
		}
		// A busy machine refuses some with 503 after they were counted.
		if statuses[403] > 20 || statuses[403]+statuses[503] < 20 || statuses[429] == 0 {
			return fmt.Sprintf("statuses %v, want 20 guesses and then 429", statuses)
		}
		a := s.pods[0].call(t, u.token, "DELETE", "/api/users/me", map[string]any{"password": password})
		if a.status != 429 || a.code() != "rate_limited" {
			return fmt.Sprintf("the right password after too many wrong ones: %d %s", a.status, a.body)
		}
		return ""
	})
	knows := s.pods[0].register(t)
	for i := range 25 { // right passwords are no guesses
		from, to := fmt.Sprint("a good password ", i-1), fmt.Sprint("a good password ", i)
		if i == 0 {
			from = password
		}
		s.pods[i%2].want(t, 204, knows.token, "POST", "/api/auth/password", map[string]any{"current": from, "new": to})
	}
}

// guessAtOnce sends n wrong passwords of the user's at the same time and adds the answers to the statuses. Each 429 must have a Retry-After.
func (s *system) guessAtOnce(t *testing.T, u user, n int, statuses map[int]int) {
	t.Helper()
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			a, err := s.guess(i, u)
			if err != nil {
				t.Error(err)
			}
			if a.status == 429 && a.header.Get("Retry-After") == "" {
				t.Error("a 429 without Retry-After")
			}
			mu.Lock()
			defer mu.Unlock()
			statuses[a.status]++
		})
	}
	wg.Wait()
}

// guess sends a wrong password of the user's. Its pod and its route depend on i.
func (s *system) guess(i int, u user) (answer, error) {
	p := s.pods[i%2]
	if i%3 == 0 {
		return p.try(u.token, "DELETE", "/api/users/me", map[string]any{"password": "wrong password"})
	}
	return p.try(u.token, "POST", "/api/auth/password", map[string]any{"current": "wrong password", "new": "a new password"})
}

func TestALockedUsernameLetsItsOwnerIn(t *testing.T) {
	t.Parallel()
	s := start(t, 1, "PARLEY_RATE_LIMIT_AUTH=1000/15m", "PARLEY_TRUSTED_PROXIES=127.0.0.0/8")
	p := s.pods[0]
	const home, home6 = "198.51.100.7", "2001:db8:1:2::7"
	p.want(t, 201, "", "POST", "/api/auth/register", map[string]any{"username": "anna.locked", "password": password}, "X-Forwarded-For", home)
	login := func(password, from string) int {
		return p.call(t, "", "POST", "/api/auth/login", map[string]any{"username": "anna.locked", "password": password}, "X-Forwarded-For", from).status
	}
	if got := login(password, home6); got != 200 {
		t.Fatal(got)
	}
	for i := range 20 {
		login("wrong password", fmt.Sprintf("203.0.113.%d", i))
	}
	for from, want := range map[string]int{"203.0.113.99": 429, home: 200, "2001:db8:1:2::8": 200, "2001:db8:1:3::7": 429} {
		if got := login(password, from); got != want {
			t.Errorf("the right password from %s: %d, want %d", from, got, want)
		}
	}
	for range 20 {
		login("wrong password", home)
	}
	if got := login(password, home); got != 429 {
		t.Errorf("a known address may guess too: %d", got)
	}
}
