package webhook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/parley-chat/parley/internal/outbound"
)

// outcome is what became of one delivery.
type outcome struct {
	status int // 0 for no answer
	reason string
	answer string // the first KiB of it
	after  time.Duration
}

func (o outcome) ok() bool   { return o.status >= 200 && o.status < 300 }
func (o outcome) gone() bool { return o.status == http.StatusGone }

func (o outcome) statusOrNull() *int {
	if o.status == 0 {
		return nil
	}
	return &o.status
}

// keptAnswer is how much of an answer is kept, readAnswer how much is read so that the connection can be used again.
const (
	keptAnswer = 1 << 10
	readAnswer = 64 << 10
	maxAfter   = time.Hour
)

// sender does the HTTP of deliveries.
type sender struct {
	sealer *Sealer
	client *http.Client
}

func newSender(sealer *Sealer, guard *outbound.Guard, timeout time.Duration) *sender {
	return &sender{sealer: sealer, client: guard.Client(timeout, slotsPerEndpoint)}
}

// send delivers once.
func (s *sender) send(ctx context.Context, t target, d delivery, replay bool) outcome {
	secrets := make([][]byte, 0, len(t.secrets))
	for _, sealed := range t.secrets {
		secret, err := s.sealer.Open(t.id, sealed)
		if err != nil {
			return outcome{reason: err.Error()}
		}
		secrets = append(secrets, secret)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.url, bytes.NewReader(d.body))
	if err != nil {
		return outcome{reason: "the URL cannot be requested"}
	}
	now := time.Now().Unix()
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "Parley-Webhooks/1")
	req.Header.Set("webhook-id", d.id)
	req.Header.Set("webhook-timestamp", strconv.FormatInt(now, 10))
	req.Header.Set("webhook-signature", Sign(secrets, d.id, now, d.body))
	if replay {
		req.Header.Set("parley-replay", "true")
	}
	res, err := s.client.Do(req)
	if err != nil {
		return outcome{reason: plain(err)}
	}
	defer res.Body.Close()
	answer, _ := io.ReadAll(io.LimitReader(res.Body, readAnswer))
	o := outcome{status: res.StatusCode, answer: text(answer[:min(len(answer), keptAnswer)])}
	if !o.ok() {
		o.reason = fmt.Sprintf("answered %d", o.status)
	}
	if s := res.Header.Get("Retry-After"); s != "" {
		o.after = retryAfter(s)
	}
	return o
}

func retryAfter(s string) time.Duration {
	if n, err := strconv.Atoi(s); err == nil && n > 0 {
		return min(time.Duration(n)*time.Second, maxAfter)
	}
	if at, err := http.ParseTime(s); err == nil {
		return min(max(time.Until(at), 0), maxAfter)
	}
	return 0
}

// plain is an error of a request without its URL, which may hold a token.
func plain(err error) string {
	switch {
	case errors.Is(err, outbound.ErrAddress):
		return outbound.ErrAddress.Error()
	case errors.Is(err, context.DeadlineExceeded):
		return "no answer in time"
	}
	var cause interface{ Timeout() bool }
	if errors.As(err, &cause) && cause.Timeout() {
		return "no answer in time"
	}
	s := err.Error()
	if i := strings.LastIndex(s, `": `); i >= 0 {
		s = s[i+3:]
	}
	return s
}

func text(b []byte) string {
	s := strings.ToValidUTF8(string(b), string(utf8.RuneError))
	return strings.ReplaceAll(s, "\x00", string(utf8.RuneError))
}
