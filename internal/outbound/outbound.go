// Package outbound makes HTTP clients for requests to addresses that come from clients or the product: receivers of webhooks and push
// services. It decides which addresses such requests may reach.
package outbound

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"time"
)

// ErrAddress is returned for an address that requests must not reach.
var ErrAddress = errors.New("the address is not allowed")

// Guard decides which addresses requests may reach. It checks the address that is dialled, after the name was resolved. So a name that
// resolves to another address after CheckURL gains nothing.
type Guard struct {
	// Allow are networks that are allowed although they are private, and with plain http.
	Allow []netip.Prefix
	// Hosts are names and addresses from the operator's settings. All addresses that they resolve to are allowed, with plain http too.
	Hosts []string
}

func (g *Guard) named(host string) bool { return slices.Contains(g.Hosts, strings.ToLower(host)) }

// never are networks that no request may reach unless Allow contains them: this host, private and shared networks, link-local addresses
// (which include the metadata services of clouds), and addresses that are not unicast.
var never = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"),
	netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("172.16.0.0/12"),
	netip.MustParsePrefix("192.0.0.0/24"), netip.MustParsePrefix("192.168.0.0/16"), netip.MustParsePrefix("198.18.0.0/15"),
	netip.MustParsePrefix("224.0.0.0/3"), netip.MustParsePrefix("::/96"), netip.MustParsePrefix("64:ff9b::/96"),
	netip.MustParsePrefix("64:ff9b:1::/48"), netip.MustParsePrefix("2001::/32"), netip.MustParsePrefix("2002::/16"), // which hold IPv4 addresses
	netip.MustParsePrefix("fc00::/7"), netip.MustParsePrefix("fe80::/10"), netip.MustParsePrefix("fec0::/10"), netip.MustParsePrefix("ff00::/8"), netip.MustParsePrefix("fd00:ec2::254/128"),
}

// local are the loopback and link-local networks, which are refused even for names of the cluster.
var local = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("::/96"), netip.MustParsePrefix("fe80::/10"), netip.MustParsePrefix("fd00:ec2::254/128"),
}

// inCluster reports whether a host is the name of a Service in the cluster, whose addresses are private.
func inCluster(host string) bool {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	return strings.HasSuffix(host, ".svc") || strings.HasSuffix(host, ".svc.cluster.local")
}

func contains(list []netip.Prefix, ip netip.Addr) bool {
	for _, p := range list {
		if p.Contains(ip) {
			return true
		}
	}
	return false
}

// CheckAddress returns ErrAddress if a request to the host must not reach the address.
func (g *Guard) CheckAddress(host string, ip netip.Addr) error {
	ip = ip.Unmap().WithZone("") // no prefix contains an address with a zone
	switch {
	case contains(g.Allow, ip), g.named(host):
		return nil
	case contains(local, ip), !inCluster(host) && contains(never, ip):
		return fmt.Errorf("%w: %s", ErrAddress, ip)
	}
	return nil
}

// CheckURL returns the reason why a URL must not be requested, "" if it may be. Plain http is only for Services of the cluster, Allow and
// Hosts.
func (g *Guard) CheckURL(s string) string {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Hostname() == "" || u.Scheme != "https" && u.Scheme != "http" || len(s) > 2048:
		return "must be an absolute https URL"
	case u.User != nil || u.Fragment != "":
		return "must not have a user, password or fragment"
	case g.named(u.Hostname()):
		return ""
	}
	if ip, ok := literal(u.Hostname()); ok {
		if g.CheckAddress("", ip) != nil {
			return "must not be of a private network, unless PARLEY_WEBHOOK_ALLOW_CIDRS names it"
		}
		if u.Scheme == "http" && !contains(g.Allow, ip.Unmap().WithZone("")) {
			return "must be https"
		}
		return ""
	}
	if u.Scheme == "http" && !inCluster(u.Hostname()) {
		return "must be https"
	}
	return ""
}

// Client makes an HTTP client that follows no redirects, uses no proxy, and dials only addresses that the guard allows. timeout bounds a
// request. perHost is the usual number of concurrent requests to one host; up to twice as many connections are made.
func (g *Guard) Client(timeout time.Duration, perHost int) *http.Client {
	transport := &http.Transport{
		Proxy: nil,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			host, _, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			d := net.Dialer{Timeout: timeout, Control: func(_, address string, _ syscall.RawConn) error {
				ap, err := netip.ParseAddrPort(address)
				if err != nil {
					return fmt.Errorf("%w: %s", ErrAddress, address)
				}
				return g.CheckAddress(host, ap.Addr())
			}}
			return d.DialContext(ctx, network, address)
		},
		TLSHandshakeTimeout: timeout, MaxIdleConnsPerHost: perHost, MaxConnsPerHost: 2 * perHost, IdleConnTimeout: time.Minute,
		ForceAttemptHTTP2: true,
	}
	return &http.Client{
		Transport: transport, Timeout: timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}
