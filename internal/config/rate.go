package config

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Rate is a limit of Count within a Window. The zero value is no limit.
type Rate struct {
	Count  int
	Window time.Duration
}

// Off reports whether there is no limit.
func (r Rate) Off() bool { return r.Count == 0 }

// String writes the rate as a setting has it.
func (r Rate) String() string {
	if r.Off() {
		return "off"
	}
	return fmt.Sprintf("%d/%s", r.Count, r.Window)
}

const maxRate = 1_000_000

// parseRate reads "100/1m", or "off".
func parseRate(s string) (Rate, error) {
	if s == "off" {
		return Rate{}, nil
	}
	count, window, ok := strings.Cut(s, "/")
	n, err := strconv.Atoi(count)
	d, derr := time.ParseDuration(window)
	if !ok || err != nil || derr != nil || n < 1 || n > maxRate || d < time.Millisecond {
		return Rate{}, fmt.Errorf("%q is not a rate", s)
	}
	return Rate{n, d}, nil
}

func (r *reader) rate(name, def string) Rate {
	rate, err := parseRate(r.text(name, def))
	if err != nil {
		r.fault(name, "must be off or a count and a window, such as %s", def)
	}
	return rate
}

func (r *reader) limits() Limits {
	return Limits{
		Default: r.rate("RATE_LIMIT_DEFAULT", "100/1m"),
		Auth:    r.rate("RATE_LIMIT_AUTH", "5/15m"),
		Refresh: r.rate("RATE_LIMIT_REFRESH", "30/15m"),
		Search:  r.rate("RATE_LIMIT_SEARCH", "10/1m"),
		Send:    r.rate("RATE_LIMIT_SEND", "120/1m"),
		React:   r.rate("RATE_LIMIT_REACT", "120/1m"),
		Upload:  r.rate("RATE_LIMIT_UPLOAD", "60/1m"),
		Sync:    r.rate("RATE_LIMIT_SYNC", "5000/1m"),
		Server:  r.rate("RATE_LIMIT_SERVER", "6000/1m"),
		Socket:  r.rate("RATE_LIMIT_SOCKET", "300/1m"),
		Frames:  r.rate("RATE_LIMIT_FRAMES", "50/1s"),
	}
}
