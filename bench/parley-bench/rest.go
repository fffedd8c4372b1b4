package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// answerTime is how long an answer may take.
const answerTime = 30 * time.Second

// limited is a 429.
type limited struct {
	what string
	wait time.Duration
}

func (l *limited) Error() string {
	return fmt.Sprintf("%s was refused as too many (429); PARLEY_RATE_LIMIT_*=off lifts the limits, see docs/benchmarking.md", l.what)
}

// problem is what the server says is wrong.
type problem struct {
	Status int    `json:"status"`
	Code   string `json:"code"`
	Detail string `json:"detail"`
}

func (p *problem) Error() string { return fmt.Sprintf("%d %s %s", p.Status, p.Code, p.Detail) }

// refusal makes an error of an answer that is a problem.
func refusal(what string, res *http.Response) error {
	if res.StatusCode == http.StatusTooManyRequests {
		seconds, _ := strconv.Atoi(res.Header.Get("Retry-After")) // none is 0
		return &limited{what, time.Duration(max(seconds, 1)) * time.Second}
	}
	p := &problem{Status: res.StatusCode}
	if err := json.NewDecoder(res.Body).Decode(p); err != nil || p.Code == "" {
		p.Code = "not Parley's answer"
	}
	return fmt.Errorf("%s: %w", what, p)
}

// call makes a request of a path under /api, as somebody unless p is nil, and decodes the answer, unless out is nil.
func (b *bench) call(ctx context.Context, p *person, method, path string, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	body, base := []byte(nil), b.url(0)
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return err
		}
	}
	if p != nil {
		base = p.base()
	}
	req, err := http.NewRequestWithContext(ctx, method, base+"/api"+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	if p != nil {
		token, err := p.access(ctx)
		if err != nil {
			return err
		}
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := b.http.Do(req)
	if err != nil {
		if p != nil {
			p.failed.Add(1)
		}
		return err
	}
	defer res.Body.Close()
	if res.StatusCode >= http.StatusBadRequest {
		return refusal(method+" "+path, res)
	}
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(res.Body).Decode(out); err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	return nil
}

// account is what registering and refreshing answer.
type account struct {
	User         struct{ ID string }
	AccessToken  string
	RefreshToken string
	ExpiresIn    int
}

// sign takes new tokens. Its caller holds p.signing, or has p alone.
func (p *person) sign(a account) {
	p.token, p.refresh = a.AccessToken, a.RefreshToken
	p.expires = time.Now().Add(time.Duration(a.ExpiresIn) * time.Second)
}

// access is a good access token. Who registered gets a new one when the last is about to expire.
func (p *person) access(ctx context.Context) (string, error) {
	p.signing.Lock()
	defer p.signing.Unlock()
	if p.refresh != "" && time.Until(p.expires) < time.Minute {
		var a account
		if err := p.b.call(ctx, nil, "POST", "/auth/refresh", map[string]string{"refreshToken": p.refresh}, &a); err != nil {
			return "", err
		}
		p.sign(a)
	}
	return p.token, nil
}

// probe asks each address whether Parley is there.
func (b *bench) probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	for _, u := range b.URLs {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, u+"/api/health/ready", nil)
		if err != nil {
			return err
		}
		res, err := b.http.Do(req)
		if err != nil {
			return fmt.Errorf("nothing answers at --url %s: %w", u, err)
		}
		var health struct{ Status string }
		err = json.NewDecoder(res.Body).Decode(&health)
		_ = res.Body.Close()
		if err != nil || health.Status == "" {
			return fmt.Errorf("--url %s is not Parley's: GET /api/health/ready answered %s", u, res.Status)
		}
		if health.Status != "ok" {
			return fmt.Errorf("--url %s is not ready: %s", u, health.Status)
		}
	}
	return nil
}

// recognised asks whether the server knows who was made.
func (b *bench) recognised(ctx context.Context, p *person) error {
	err := b.call(ctx, p, "GET", "/users/me", nil, nil)
	if pr := (*problem)(nil); errors.As(err, &pr) && b.Seeded && (pr.Status == http.StatusUnauthorized || pr.Status == http.StatusNotFound) {
		return fmt.Errorf("the server does not know the seeded user: --jwt-secret must be its PARLEY_JWT_SECRET and --database-url its database: %w", err)
	}
	return err
}
