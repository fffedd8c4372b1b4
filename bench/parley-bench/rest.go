package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/parley-chat/parley/internal/client"
)

// answerTime is how long an answer may take.
const answerTime = 30 * time.Second

// call makes a request of a path under /api, as somebody unless p is nil, and decodes the answer, unless out is nil.
func (b *bench) call(ctx context.Context, p *person, method, path string, in, out any) error {
	s := client.Server{Base: b.url(0), HTTP: b.http}
	if p != nil {
		token, err := p.access(ctx)
		if err != nil {
			return err
		}
		s.Base, s.Token = p.base(), token
	}
	err := s.Call(ctx, method, path, in, out)
	if p != nil && err != nil && client.ProblemOf(err) == nil {
		p.failed.Add(1)
	}
	return err
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
	for _, u := range b.URLs {
		r, err := client.Server{Base: u, HTTP: b.http}.Do(ctx, http.MethodGet, "/api/health/ready", nil)
		if err != nil {
			return fmt.Errorf("nothing answers at --url %s: %w", u, err)
		}
		var health struct{ Status string }
		if err = json.Unmarshal(r.Body, &health); err != nil || health.Status == "" {
			return fmt.Errorf("--url %s is not Parley's: GET /api/health/ready answered %d", u, r.Status)
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
	if pr := client.ProblemOf(err); pr != nil && b.Seeded && (pr.Status == http.StatusUnauthorized || pr.Status == http.StatusNotFound) {
		return fmt.Errorf("the server does not know the seeded user: --jwt-secret must be its PARLEY_JWT_SECRET and --database-url its database: %w", err)
	}
	return err
}
