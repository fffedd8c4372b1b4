package objectstore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
)

// probeTTL is how long the URL of a probe is valid.
const probeTTL = time.Minute

// Verify tests the bucket with an object, which it removes again. It returns the faults of the bucket's settings, as texts for the operator:
// the bucket is public, pages of one of the origins cannot upload to it, or an existing object can be overwritten. The error is ErrRefused
// if the credentials do not suffice or there is no such bucket, otherwise ErrUnavailable.
//
// It uses the public endpoint, or Endpoint if the public one cannot be reached from here.
func (s *Store) Verify(ctx context.Context, origins []string) (faults []string, err error) {
	if err := s.Check(ctx); err != nil {
		return nil, err
	}
	key := "parley-verify/" + rand.Text()
	defer func() { _ = s.Remove(context.WithoutCancel(ctx), key) }()
	status, u, err := s.putProbe(ctx, s.public, key)
	if err != nil {
		status, u, err = s.putProbe(ctx, s.inner, key)
	}
	switch {
	case err != nil:
		return nil, err
	case status != http.StatusOK:
		return nil, fmt.Errorf("%w: an upload is answered %d", ErrRefused, status)
	}
	info, err := s.Stat(ctx, key)
	if err != nil {
		return nil, err
	}
	if _, err := s.Read(ctx, key, info.ETag, 0, 1); err != nil {
		return nil, err
	}
	again, err := s.put(ctx, u)
	if err != nil {
		return nil, err
	}
	if again != http.StatusPreconditionFailed && again != http.StatusConflict {
		faults = append(faults, fmt.Sprintf("stores an object twice in spite of If-None-Match (%d): a checked file could be replaced afterwards", again))
	}
	open, err := s.isPublic(ctx, u)
	if err != nil {
		return nil, err
	}
	if open {
		faults = append(faults, "is public: anybody can read an object without a signature")
	}
	for _, origin := range origins {
		ok, err := s.allowsOrigin(ctx, u, origin)
		if err != nil {
			return nil, err
		}
		if !ok {
			faults = append(faults, "does not let pages of "+origin+" upload: its CORS rules must allow PUT with the headers content-type and if-none-match")
		}
	}
	return faults, s.Remove(ctx, key)
}

const probe = "parley"

func (s *Store) putProbe(ctx context.Context, c *minio.Client, key string) (status int, u *url.URL, err error) {
	headers := http.Header{"Content-Type": {"text/plain"}, "Content-Length": {fmt.Sprint(len(probe))}, "If-None-Match": {"*"}}
	u, err = c.PresignHeader(ctx, http.MethodPut, s.bucket, key, probeTTL, nil, headers)
	if err != nil {
		return 0, nil, classify("sign a probe", err)
	}
	status, err = s.put(ctx, u)
	return status, u, err
}

func (s *Store) put(ctx context.Context, u *url.URL) (status int, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPut, u.String(), strings.NewReader(probe))
	if err != nil {
		return 0, fmt.Errorf("send a probe: %w", err)
	}
	r.Header.Set("Content-Type", "text/plain")
	r.Header.Set("If-None-Match", "*")
	status, _, err = s.do(r)
	return status, err
}

func (s *Store) isPublic(ctx context.Context, u *url.URL) (bool, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, unsigned(u), http.NoBody)
	if err != nil {
		return false, fmt.Errorf("ask without a signature: %w", err)
	}
	status, _, err := s.do(r)
	return err == nil && status < http.StatusMultipleChoices, err
}

// allowsOrigin makes the preflight request that a browser makes before an upload.
func (s *Store) allowsOrigin(ctx context.Context, u *url.URL, origin string) (bool, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodOptions, unsigned(u), http.NoBody)
	if err != nil {
		return false, fmt.Errorf("ask for an origin: %w", err)
	}
	r.Header.Set("Origin", origin)
	r.Header.Set("Access-Control-Request-Method", http.MethodPut)
	r.Header.Set("Access-Control-Request-Headers", "content-type,if-none-match")
	status, header, err := s.do(r)
	if err != nil {
		return false, err
	}
	allowed := header.Get("Access-Control-Allow-Origin")
	return status < http.StatusMultipleChoices && (allowed == "*" || allowed == origin) &&
		lists(header, "Access-Control-Allow-Methods", http.MethodPut) &&
		lists(header, "Access-Control-Allow-Headers", "content-type") && lists(header, "Access-Control-Allow-Headers", "if-none-match"), nil
}

// lists reports whether a header, which is a list, contains an item.
func lists(h http.Header, name, item string) bool {
	for _, v := range strings.Split(strings.Join(h.Values(name), ","), ",") {
		if v = strings.TrimSpace(v); v == "*" || strings.EqualFold(v, item) {
			return true
		}
	}
	return false
}

func unsigned(u *url.URL) string {
	plain := *u
	plain.RawQuery = ""
	return plain.String()
}

// do sends a request and discards the body of the response.
func (s *Store) do(r *http.Request) (status int, header http.Header, err error) {
	res, err := s.http.RoundTrip(r)
	if err != nil {
		return 0, nil, errors.Join(ErrUnavailable, err)
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, 1<<16))
	return res.StatusCode, res.Header, nil
}
