package invalid_test

import (
	"strings"
	"testing"

	"github.com/parley-chat/parley/internal/invalid"
)

func TestURL(t *testing.T) {
	t.Parallel()
	for in, valid := range map[string]bool{
		"https://example.com/a.png": true, "http://example.com": true, "https://93.184.216.34/a": true, "https://[2606:2800:220:1::1]/": true,
		"": false, "example.com": false, "ftp://example.com": false, "https:///a": false, "javascript:alert(1)": false,
		"https://user:secret@example.com/": false, "https://user@example.com/": false,
		"http://localhost/": false, "http://localhost.:80/": false, "http://a.localhost/": false, "http://printer.local/": false,
		"http://metadata.google.internal/": false, "http://127.0.0.1/": false, "http://10.1.2.3/": false, "http://192.168.0.1/": false,
		"http://169.254.169.254/latest": false, "http://[::1]/": false, "http://[fe80::1]/": false, "http://[fd00::1]/": false,
		"http://[::ffff:10.0.0.1]/": false, "http://0.0.0.0/": false,
		"https://example.com/" + strings.Repeat("a", 2028): true, "https://example.com/" + strings.Repeat("a", 2029): false,
	} {
		var f invalid.Faults
		invalid.URL(&f, "avatarUrl", in)
		if (f.Err() == nil) != valid {
			t.Errorf("%.60q: %v", in, f.Err())
		}
	}
}
