package invalid

import (
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"unicode/utf8"
)

// MaxURL is how many code points a URL has at most.
const MaxURL = 2048

// privateSuffixes are endings of host names that are known only on a machine or in a local network.
var privateSuffixes = []string{".localhost", ".local", ".internal", ".home.arpa"}

// sharedSpace is that of providers' own networks (RFC 6598).
var sharedSpace = netip.MustParsePrefix("100.64.0.0/10")

var numeric = regexp.MustCompile(`^(0x[0-9a-f]*|[0-9]+)$`)

// URL adds a fault to f unless s is an absolute http or https URL of at most MaxURL code points, without user information, whose
// host is neither a private address nor a name of a private network: other people's browsers will fetch it.
func URL(f *Faults, field, s string) {
	text := s
	Text{Min: 1, Max: MaxURL}.Check(f, field, &text)
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || utf8.RuneCountInString(s) > MaxURL:
		f.Add(field, "must be an absolute http or https URL of at most %d characters", MaxURL)
	case u.User != nil:
		f.Add(field, "must not have a user or password")
	case privateHost(u.Hostname()):
		f.Add(field, "must not be of a private network")
	}
}

func privateHost(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if ip, err := netip.ParseAddr(host); err == nil {
		ip = ip.Unmap()
		return !ip.IsGlobalUnicast() || ip.IsPrivate() || sharedSpace.Contains(ip)
	}
	// A name without a dot belongs to a local network. Browsers interpret a host whose last part is a number as an address, in spellings
	// that no public server needs: 127.1, 0x7f000001, 2130706433.
	dot := strings.LastIndexByte(host, '.')
	if dot < 0 || numeric.MatchString(host[dot+1:]) {
		return true
	}
	for _, s := range privateSuffixes {
		if strings.HasSuffix(host, s) {
			return true
		}
	}
	return false
}
