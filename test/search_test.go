package test

import (
	"fmt"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

func TestSearchingUsers(t *testing.T) {
	t.Parallel()
	s := start(t, 2, "PARLEY_RATE_LIMIT_SEARCH=10/1h")
	p := s.pods[0]
	u := p.users(t, 3)
	find := func(query string) answer {
		return s.pods[1].call(t, u[0].token, "GET", "/api/users/search?"+query, nil)
	}
	var found struct {
		Data []struct{ ID, Username string }
	}
	find("q="+u[1].Username).into(t, &found)
	if len(found.Data) == 0 || found.Data[0].ID != u[1].ID {
		t.Errorf("found %+v, want the user of that name first", found)
	}
	for query, fields := range map[string]string{
		"": "q", "q=a": "q", "q=%20a%20": "q", "q=" + strings.Repeat("x", 51): "q", "q=ab&limit=0": "limit", "q=ab&limit=51": "limit", "q=a&limit=x": "limit q",
		"q=" + url.QueryEscape("a\x00b"): "q", "q=ab%FF%FE": "q",
	} {
		expectFaults(t, find(query), query, fields)
	}
	p.want(t, 401, "", "GET", "/api/users/search?q=ab", nil)
	s.countedInRedis(t, func() string { return s.searchTooOften(p.register(t)) })
}

// searchTooOften searches 14 times at once over both pods, with a limit of 10 for both together, and returns what is wrong with the answers.
func (s *system) searchTooOften(searcher user) (fault string) {
	var passed, refused atomic.Int64
	var wg sync.WaitGroup
	for i := range 14 {
		wg.Go(func() {
			a, err := s.pods[i%2].try(searcher.token, "GET", "/api/users/search?q=user", nil)
			switch {
			case err == nil && a.status == 200:
				passed.Add(1)
			case err == nil && a.status == 429:
				refused.Add(1)
			}
		})
	}
	wg.Wait()
	if passed.Load() == 10 && refused.Load() == 4 {
		return ""
	}
	return fmt.Sprintf("of 14 searches %d passed and %d were refused, want 10 and 4", passed.Load(), refused.Load())
}
