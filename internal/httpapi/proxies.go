package httpapi

import (
	"bytes"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/gofiber/fiber/v2"

	"github.com/parley-chat/parley/internal/config"
)

// proxies determines a client's address behind trusted proxies.
type proxies struct {
	trusted []netip.Prefix
	// header is the header in which trusted proxies send the client's address: config.ForwardedFor or config.ForwardedRFC.
	header string
	log    *slog.Logger
	once   sync.Once
}

func (p *proxies) trusts(a netip.Addr) bool {
	return slices.ContainsFunc(p.trusted, func(n netip.Prefix) bool { return n.Contains(a.Unmap()) })
}

// peer returns the address of the other end of a request's connection.
func peer(c *fiber.Ctx) netip.Addr {
	a, _ := netip.AddrFromSlice(c.Context().RemoteIP())
	return a.Unmap()
}

// client returns the address of a request's client: the peer, or, if the peer is a trusted proxy, the right-most address in the header that is
// not a trusted proxy.
func (p *proxies) client(c *fiber.Ctx) netip.Addr {
	a := peer(c)
	if !p.trusts(a) {
		return a
	}
	return p.behind(a, c.Request().Header.PeekAll(p.header))
}

// behind returns the client behind a trusted peer. It reads the header's hops from right to left and stops at the first that is not trusted,
// because hops to the left of it were written by an untrusted client. It also stops before a hop that is not an address, and returns the
// hop to the right of it. Repeated headers form one list (RFC 9110, section 5.3).
func (p *proxies) behind(peer netip.Addr, lines [][]byte) netip.Addr {
	hops := splitHops(string(bytes.Join(lines, []byte(","))))
	for _, hop := range slices.Backward(hops) {
		if p.header == config.ForwardedRFC {
			hop = forwardedFor(hop)
		}
		next, ok := hopAddress(hop)
		if !ok {
			break
		}
		if peer = next; !p.trusts(peer) {
			break
		}
	}
	return peer
}

// splitHops splits a list at the commas outside of quotes.
func splitHops(list string) []string {
	quoted := false
	return strings.FieldsFunc(list, func(r rune) bool {
		if r == '"' {
			quoted = !quoted
		}
		return r == ',' && !quoted
	})
}

// forwardedFor returns the parameter "for" of one element of a Forwarded header (RFC 7239).
func forwardedFor(element string) string {
	for pair := range strings.SplitSeq(element, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(pair), "=")
		if strings.EqualFold(name, "for") {
			return value
		}
	}
	return ""
}

// hopAddress reads an address in any form that proxies write: with or without a port, brackets (IPv6) and quotes.
func hopAddress(s string) (netip.Addr, bool) {
	s = strings.Trim(strings.TrimSpace(s), `"`)
	if at, err := netip.ParseAddrPort(s); err == nil {
		return at.Addr().Unmap().WithZone(""), true
	}
	if inner, bracketed := strings.CutPrefix(s, "["); bracketed {
		s = strings.TrimSuffix(inner, "]")
	}
	a, err := netip.ParseAddr(s)
	return a.Unmap().WithZone(""), err == nil
}

// forwarded reports whether a request has a header of proxies.
func forwarded(c *fiber.Ctx) bool {
	h := &c.Request().Header
	return len(h.Peek(fiber.HeaderXForwardedFor)) > 0 || len(h.Peek(fiber.HeaderForwarded)) > 0
}

// warn logs once that an untrusted peer sends the header. Mostly that is a proxy that is missing in the settings.
func (p *proxies) warn(c *fiber.Ctx) {
	if len(c.Request().Header.Peek(p.header)) == 0 || p.trusts(peer(c)) {
		return
	}
	p.once.Do(func() {
		p.log.Warn("the address that an untrusted peer names for its client is ignored: if that is your proxy, name it in PARLEY_TRUSTED_PROXIES",
			"peer", peer(c).String(), "header", p.header)
	})
}

// near are the networks from which metrics may be read without a token: this machine and private networks.
var near = []netip.Prefix{
	netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128"),
	netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("fc00::/7"), netip.MustParsePrefix("fe80::/10"),
}

// isNear reports whether a request comes from this machine or a private network, and not through a proxy.
func (p *proxies) isNear(c *fiber.Ctx) bool {
	a := peer(c).WithZone("")
	return !p.trusts(a) && !forwarded(c) && slices.ContainsFunc(near, func(n netip.Prefix) bool { return n.Contains(a) })
}
