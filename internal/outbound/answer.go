package outbound

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	// maxAfter is the longest Retry-After that is obeyed.
	maxAfter = time.Hour
	// drained is how many bytes of a response are read so that the connection can be used again.
	drained = 64 << 10
)

// RetryAfter converts a Retry-After header, which is in seconds or a time, to a duration from now: 0 if there is none, at most an hour.
func RetryAfter(s string) time.Duration {
	if n, err := strconv.Atoi(s); err == nil && n > 0 {
		return min(time.Duration(min(n, int(maxAfter/time.Second)))*time.Second, maxAfter)
	}
	if at, err := http.ParseTime(s); err == nil {
		return min(max(time.Until(at), 0), maxAfter)
	}
	return 0
}

var errTimeout = errors.New("no answer in time")

// Plain returns the error of a request without the URL, which may contain a token.
func Plain(err error) error {
	var cause interface{ Timeout() bool }
	switch {
	case errors.Is(err, ErrAddress):
		return ErrAddress
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &cause) && cause.Timeout():
		return errTimeout
	}
	s := err.Error()
	if i := strings.LastIndex(s, `": `); i >= 0 {
		s = s[i+3:]
	}
	return errors.New(s)
}

// Drain reads the rest of a response, at most drained bytes, and closes it.
func Drain(res *http.Response) {
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, drained))
	_ = res.Body.Close()
}
