package outbound

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"
)

// Nothing of a request is written once its fence is over, on new and on used connections, and the next request is sent again.
func TestALateRequestIsNotSent(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(http.Handler) *httptest.Server{"http": httptest.NewServer, "https": httptest.NewTLSServer} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var heard atomic.Int64
			server := start(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				_, _ = io.ReadAll(r.Body)
				heard.Add(1)
			}))
			defer server.Close()
			g := &Guard{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
			client := g.FencedClient(10*time.Second, 1)
			if name == "https" {
				client.Transport.(*http.Transport).TLSClientConfig = server.Client().Transport.(*http.Transport).TLSClientConfig
			}
			defer client.CloseIdleConnections()
			post := func(until time.Time) error {
				r, err := http.NewRequestWithContext(Before(t.Context(), until), "POST", server.URL, bytes.NewReader(make([]byte, 1<<17)))
				if err != nil {
					t.Fatal(err)
				}
				res, err := client.Do(r)
				if err == nil {
					_, _ = io.Copy(io.Discard, res.Body)
					_ = res.Body.Close()
				}
				return err
			}
			for i, late := range []bool{true, false, false, true, false} {
				before, until := heard.Load(), time.Now().Add(time.Minute)
				if late {
					until = time.Now().Add(-time.Millisecond)
				}
				err := post(until)
				if late && (!errors.Is(err, ErrLate) || heard.Load() != before) {
					t.Errorf("request %d, late: %v, and %d came", i, err, heard.Load()-before)
				}
				if !late && (err != nil || heard.Load() != before+1) {
					t.Errorf("request %d: %v, and %d came", i, err, heard.Load()-before)
				}
			}
		})
	}
}
