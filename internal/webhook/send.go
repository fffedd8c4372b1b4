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

// outcome is the result of one delivery. status is 0 if there was no response.
type outcome struct {
	status int
	reason string
	answer string        // the first KiB of the response
	after  time.Duration // the response's Retry-After, 0 for none
	// late is set if nothing was sent, because the lease was about to end.
	late bool
}

func (o outcome) ok() bool   { return o.status >= 200 && o.status < 300 }
func (o outcome) gone() bool { return o.status == http.StatusGone }

func (o outcome) statusOrNull() *int {
	if o.status == 0 {
		return nil
	}
	return &o.status
}

// keptAnswer is how many bytes of a response are kept, readAnswer how many are read so that the connection can be used again.
const (
	keptAnswer = 1 << 10
	readAnswer = 64 << 10
)

// sender signs deliveries and sends them over HTTP.
type sender struct {
	sealer *Sealer
	client *http.Client
}

func newSender(sealer *Sealer, guard *outbound.Guard, timeout time.Duration) *sender {
	return &sender{sealer: sealer, client: guard.FencedClient(timeout, slotsPerEndpoint)}
}

// send makes one request. replay marks it as a repetition.
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
	if errors.Is(err, outbound.ErrLate) {
		return outcome{reason: outbound.ErrLate.Error(), late: true}
	}
	if err != nil {
		return outcome{reason: outbound.Plain(err).Error()}
	}
	defer res.Body.Close()
	answer, _ := io.ReadAll(io.LimitReader(res.Body, readAnswer))
	o := outcome{status: res.StatusCode, answer: text(answer[:min(len(answer), keptAnswer)])}
	if !o.ok() {
		o.reason = fmt.Sprintf("answered %d", o.status)
	}
	o.after = outbound.RetryAfter(res.Header.Get("Retry-After"))
	return o
}

func text(b []byte) string {
	s := strings.ToValidUTF8(string(b), string(utf8.RuneError))
	return strings.ReplaceAll(s, "\x00", string(utf8.RuneError))
}
