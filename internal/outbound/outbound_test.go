package outbound_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/outbound"
)

// A host of the operator's own settings may be private and plain; its address under another name may not.
func TestOwnHostsAreAllowed(t *testing.T) {
	t.Parallel()
	g := &outbound.Guard{Hosts: []string{"127.0.0.1", "push.internal"}}
	for url, ok := range map[string]bool{
		"http://127.0.0.1:8080/x": true, "http://push.internal/x": true, "https://PUSH.internal/x": true, "http://127.0.0.2/x": false,
		"http://push.internal.example/x": false, "http://push.example/x": false, "https://push.example/x": true, "https://u:p@push.internal/x": false,
	} {
		if why := g.CheckURL(url); (why == "") != ok {
			t.Errorf("%s: %q", url, why)
		}
	}
	for host, ok := range map[string]bool{"push.internal": true, "push.example": false} {
		if err := g.CheckAddress(host, netip.MustParseAddr("10.1.2.3")); (err == nil) != ok || !ok && !errors.Is(err, outbound.ErrAddress) {
			t.Errorf("10.1.2.3 for %s: %v", host, err)
		}
	}
}

func TestRetryAfterIsReadAndBounded(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]time.Duration{
		"": 0, "0": 0, "-5": 0, "soon": 0, "7": 7 * time.Second, "99999999999": time.Hour, "3601": time.Hour,
		time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat): 0, time.Now().Add(48 * time.Hour).UTC().Format(http.TimeFormat): time.Hour,
	} {
		if got := outbound.RetryAfter(s); got != want {
			t.Errorf("%q is %s, want %s", s, got, want)
		}
	}
	in := time.Now().Add(10 * time.Minute).UTC().Format(http.TimeFormat)
	if got := outbound.RetryAfter(in); got < 9*time.Minute || got > 10*time.Minute {
		t.Errorf("%q is %s", in, got)
	}
}

func TestErrorsDoNotShowURLs(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err  error
		want string
	}{
		{fmt.Errorf("Post: %w", context.DeadlineExceeded), "no answer in time"},
		{fmt.Errorf("dial: %w", outbound.ErrAddress), "the address is not allowed"},
		{errors.New(`Post "https://push.example/secret": connection refused`), "connection refused"},
	} {
		if got := outbound.Plain(c.err).Error(); got != c.want {
			t.Errorf("%v is %q, want %q", c.err, got, c.want)
		}
	}
}
