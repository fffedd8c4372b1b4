package httpapi

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/parley-chat/parley/internal/config"
)

// What the proxies and load balancers in use send, as their documentation has it, for a client at 203.0.113.7 or
// 2001:db8::7 that wrote a header of its own first.
func TestWhatProxiesSend(t *testing.T) {
	t.Parallel()
	const v4, v6 = "203.0.113.7", "2001:db8::7"
	for name, c := range map[string]struct {
		header string
		lines  []string
		want   string
	}{
		"nginx, $proxy_add_x_forwarded_for":            {config.ForwardedFor, []string{"198.51.100.1, 203.0.113.7"}, v4},
		"nginx, $remote_addr":                          {config.ForwardedFor, []string{"203.0.113.7"}, v4},
		"ingress-nginx behind a network load balancer": {config.ForwardedFor, []string{"203.0.113.7, 10.2.3.4"}, v4},
		"HAProxy, option forwardfor":                   {config.ForwardedFor, []string{"198.51.100.1", "203.0.113.7"}, v4},
		"HAProxy, three lines of the client's":         {config.ForwardedFor, []string{"198.51.100.1", "198.51.100.2, 10.1.1.1", "unknown", "203.0.113.7"}, v4},
		"HAProxy, option forwarded":                    {config.ForwardedRFC, []string{"for=198.51.100.1", "proto=https;for=203.0.113.7;by=10.0.0.1"}, v4},
		"HAProxy, option forwarded with a port":        {config.ForwardedRFC, []string{`for="203.0.113.7:4711"`}, v4},
		"HAProxy, option forwarded, IPv6":              {config.ForwardedRFC, []string{`proto=http;for="[2001:db8::7]:4711"`}, v6},
		"Envoy, use_remote_address":                    {config.ForwardedFor, []string{"198.51.100.1,203.0.113.7"}, v4},
		"Envoy, two hops of the mesh":                  {config.ForwardedFor, []string{"203.0.113.7,10.9.8.7,10.9.8.8"}, v4},
		"Traefik":                                      {config.ForwardedFor, []string{"198.51.100.1, 203.0.113.7"}, v4},
		"Traefik, IPv6 with a zone":                    {config.ForwardedFor, []string{"2001:db8::7%eth0"}, v6},
		"Caddy, IPv6":                                  {config.ForwardedFor, []string{"2001:db8::7"}, v6},
		"AWS ALB":                                      {config.ForwardedFor, []string{"198.51.100.1, 203.0.113.7"}, v4},
		"AWS ALB, client port":                         {config.ForwardedFor, []string{"198.51.100.1, 203.0.113.7:49152"}, v4},
		"AWS ALB, client port, IPv6":                   {config.ForwardedFor, []string{`"[2001:db8::7]:49152"`}, v6},
		"Azure Application Gateway":                    {config.ForwardedFor, []string{"203.0.113.7:5000"}, v4},
		"Azure Application Gateway, two in a row":      {config.ForwardedFor, []string{"203.0.113.7:5000, 10.1.0.4:1024"}, v4},
		"Azure Front Door, IPv6":                       {config.ForwardedFor, []string{"[2001:db8::7]:5000"}, v6},
		"Google's load balancer, itself trusted":       {config.ForwardedFor, []string{"198.51.100.1, 203.0.113.7, 35.191.0.1"}, v4},
		"an IPv4 address mapped to IPv6":               {config.ForwardedFor, []string{"::ffff:203.0.113.7"}, v4},
		"IPv6 in brackets, no port":                    {config.ForwardedFor, []string{"[2001:db8::7]"}, v6},
		"RFC 7239, obfuscated":                         {config.ForwardedRFC, []string{"for=203.0.113.7", "for=_secret"}, "10.0.0.1"},
		"RFC 7239, a comma within quotes":              {config.ForwardedRFC, []string{`for="a,b", For="203.0.113.7"`}, v4},
		"RFC 7239, an element without for":             {config.ForwardedRFC, []string{"for=203.0.113.7, proto=https"}, "10.0.0.1"},
		"unknown":                                      {config.ForwardedFor, []string{"203.0.113.7, unknown"}, "10.0.0.1"},
		"nothing":                                      {config.ForwardedFor, nil, "10.0.0.1"},
		"trusted ones alone":                           {config.ForwardedFor, []string{"10.5.5.5, 10.6.6.6"}, "10.5.5.5"},
	} {
		p := &proxies{header: c.header, trusted: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("35.191.0.0/16")}}
		var lines [][]byte
		for _, l := range c.lines {
			lines = append(lines, []byte(l))
		}
		if got := p.behind(netip.MustParseAddr("10.0.0.1"), lines); got != netip.MustParseAddr(c.want) {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// A header costs what its size costs, whatever is in it.
//
//nolint:paralleltest // it counts the process's allocations
func TestTheCostOfHopsIsLinear(t *testing.T) {
	p := &proxies{header: config.ForwardedFor, trusted: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
	for _, hop := range []string{"10.0.0.1", ",", `"`, `",`, "x"} {
		cost := func(n int) float64 {
			lines := [][]byte{[]byte(strings.Repeat(hop+",", n))}
			return testing.AllocsPerRun(3, func() { p.behind(netip.MustParseAddr("10.0.0.1"), lines) })
		}
		if small, large := cost(1000), cost(2000); large > 2*small+8 {
			t.Errorf("%s: %.0f allocations, twice the size %.0f", fmt.Sprintf("%q", hop), small, large)
		}
	}
}
