package outbound_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/outbound"
	"github.com/parley-chat/parley/internal/testenv"
)

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

// An address of the inside is refused in every spelling that some resolver accepts, and so is what is not a plain https URL.
func TestWhichURLsMayBeRequested(t *testing.T) {
	t.Parallel()
	g := &outbound.Guard{}
	const private, insecure, absolute, parts = "private network", "must be https", "absolute https URL", "user, password or fragment"
	for s, why := range map[string]string{
		"https://example.com/hook": "", "https://example.com:8443/": "", "https://93.184.216.34/": "", "https://[2606:2800:220:1::1]/": "",
		"http://receiver.team.svc/": "", "http://receiver.team.svc.cluster.local./": "", "https://a.b.c.d.e/": "",
		"https://127.0.0.1/": private, "https://127.1/": private, "https://0x7f.1/": private, "https://017700000001/": private, "https://2130706433/": private,
		"https://0x7f000001/": private, "https://localhost/": private, "https://LOCALHOST./": private, "https://a.localhost/": private, "https://[::1]/": private,
		"https://[::ffff:10.0.0.1]/": private, "https://[64:ff9b::a00:1]/": private, "https://[fe80::1%25eth0]/": private, "https://169.254.169.254/latest": private,
		"https://[fd00:ec2::254]/": private, "https://10.1/": private, "https://192.168.1/": private, "https://0/": private, "https://100.64.0.1/": private,
		"http://example.com/": insecure, "http://93.184.216.34/": insecure, "http://svc.example/": insecure,
		"ftp://example.com/": absolute, "//example.com/": absolute, "example.com": absolute, "https:///x": absolute, "": absolute, "https://a b/": absolute,
		"https://example.com/" + strings.Repeat("x", 2048): absolute,
		"https://u:p@example.com/":                         parts, "https://example.com/#x": parts,
	} {
		if got := g.CheckURL(s); (got == "") != (why == "") || !strings.Contains(got, why) {
			t.Errorf("%.60s: %q, want %q", s, got, why)
		}
	}
	for _, s := range []string{"https://1.2.3.4.5/", "https://256.1.1.1/", "https://1.16777216/", "https://0x_7f.1/", "https://+127.1/"} {
		if got := g.CheckURL(s); strings.Contains(got, private) {
			t.Errorf("%s is no address: %q", s, got)
		}
	}
	g.Allow = loopback
	for _, s := range []string{"http://127.1:8080/", "https://localhost/"} {
		if got := g.CheckURL(s); got != "" {
			t.Errorf("%s is allowed, but: %q", s, got)
		}
	}
}

// A name is checked again when it is dialled: one that resolves to an address of the inside reaches nothing, and neither does one of the
// cluster that leads to this host.
func TestANameThatLeadsInsideIsNotReached(t *testing.T) {
	t.Parallel()
	var reached atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	defer server.Close()
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	get := func(g *outbound.Guard, host string) error {
		client := g.Client(time.Minute, 1)
		defer client.CloseIdleConnections()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+net.JoinHostPort(host, port), http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		res, err := client.Do(r)
		if err == nil {
			outbound.Drain(res)
		}
		return err
	}
	for _, host := range []string{"localhost", "127.0.0.1"} {
		if err := get(&outbound.Guard{}, host); !errors.Is(err, outbound.ErrAddress) || outbound.Plain(err) != outbound.ErrAddress { //nolint:errorlint // Plain removes the rest
			t.Errorf("%s: %v", host, err)
		}
	}
	if reached.Load() != 0 {
		t.Error("a request reached this host")
	}
	if err := get(&outbound.Guard{Allow: loopback}, "localhost"); err != nil || reached.Load() != 1 {
		t.Errorf("an allowed one: %v, %d came", err, reached.Load())
	}
	for host, ip := range map[string]string{"a.team.svc": "127.0.0.1", "b.team.svc.cluster.local": "169.254.169.254"} {
		if err := (&outbound.Guard{}).CheckAddress(host, netip.MustParseAddr(ip)); !errors.Is(err, outbound.ErrAddress) {
			t.Errorf("%s at %s: %v", host, ip, err)
		}
	}
	if err := (&outbound.Guard{}).CheckAddress("a.team.svc", netip.MustParseAddr("10.1.2.3")); err != nil {
		t.Errorf("a Service of the cluster: %v", err)
	}
}

// A receiver can't lead requests elsewhere, keep them longer than their time, or make the process read without end.
func TestAReceiverIsNotFollowedOrWaitedFor(t *testing.T) {
	t.Parallel()
	var redirected atomic.Bool
	release := make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("/redirect", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) })
	mux.HandleFunc("/elsewhere", func(http.ResponseWriter, *http.Request) { redirected.Store(true) })
	mux.HandleFunc("/slow", func(http.ResponseWriter, *http.Request) { <-release })
	mux.HandleFunc("/endless", func(w http.ResponseWriter, _ *http.Request) {
		for piece := make([]byte, 32<<10); ; {
			if _, err := w.Write(piece); err != nil {
				return
			}
		}
	})
	server := httptest.NewServer(mux)
	defer server.Close()
	defer close(release)
	g := &outbound.Guard{Allow: loopback}
	get := func(timeout time.Duration, path string) (*http.Response, error) {
		client := g.Client(timeout, 1)
		t.Cleanup(client.CloseIdleConnections)
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		return client.Do(r)
	}
	res, err := get(time.Minute, "/redirect")
	if err != nil {
		t.Fatal(err)
	}
	outbound.Drain(res)
	if res.StatusCode != http.StatusFound || redirected.Load() {
		t.Errorf("a redirection: %d, followed %t", res.StatusCode, redirected.Load())
	}
	res, err = get(100*time.Millisecond, "/slow")
	if err == nil {
		_ = res.Body.Close()
	}
	if err == nil || outbound.Plain(err).Error() != "no answer in time" {
		t.Errorf("a receiver that does not respond: %v", err)
	}
	if res, err = get(time.Minute, "/endless"); err != nil {
		t.Fatal(err)
	}
	outbound.Drain(res) // returns, though the body has no end
	if _, err := res.Body.Read(make([]byte, 1)); err == nil {
		t.Error("the body is still open")
	}
}

// A receiver that is gone is an error without the URL, which may contain a token.
func TestARefusedConnectionIsAnErrorWithoutItsURL(t *testing.T) {
	t.Parallel()
	target := fmt.Sprintf("http://127.0.0.1:%d/secret", testenv.FreePort(t))
	client := (&outbound.Guard{Allow: loopback}).Client(time.Minute, 1)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, target, strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	res, err := client.Do(r)
	if err == nil {
		_, _ = io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
		t.Fatal("something responded")
	}
	if s := outbound.Plain(err).Error(); strings.Contains(s, "secret") || !strings.Contains(s, "refused") {
		t.Errorf("%v is reported as %s", err, s)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	res, err = client.Do(r.WithContext(ctx))
	if err == nil {
		_ = res.Body.Close()
	}
	if s := outbound.Plain(err).Error(); s != "context canceled" {
		t.Errorf("a request that was cancelled is reported as %s", s)
	}
}
