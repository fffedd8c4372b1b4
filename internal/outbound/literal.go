package outbound

import (
	"encoding/binary"
	"net/netip"
	"strconv"
	"strings"
)

// literal returns the address that a host spells out. It knows all spellings that some resolver accepts: the usual ones, IPv4 addresses of one
// to four parts, each decimal, octal or hexadecimal, and localhost. ok is false for other names, whose addresses are checked when dialled.
func literal(host string) (ip netip.Addr, ok bool) {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1}), true
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip, true
	}
	parts := strings.Split(host, ".")
	if len(parts) > 4 {
		return netip.Addr{}, false
	}
	var sum uint64
	for i, p := range parts {
		n, err := strconv.ParseUint(p, 0, 32)
		if err != nil || strings.ContainsAny(p, "_+") {
			return netip.Addr{}, false
		}
		if i < len(parts)-1 { // one byte; the last part has all remaining ones
			if n > 255 {
				return netip.Addr{}, false
			}
			sum |= n << (24 - 8*i)
			continue
		}
		if n >= 1<<(32-8*i) {
			return netip.Addr{}, false
		}
		sum |= n
	}
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], uint32(sum)) //nolint:gosec // each part is bounded
	return netip.AddrFrom4(b), true
}
