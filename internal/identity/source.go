package identity

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/parley-chat/parley/internal/backoff"
)

const (
	// fetchTimeout bounds a whole fetch, maxDocument the size of a key set in bytes.
	fetchTimeout = 5 * time.Second
	maxDocument  = 1 << 20
	// unknownEvery is how often an unknown kid may cause a fetch. It is bounded because any client can invent a kid.
	unknownEvery = 30 * time.Second
)

// retries are the pauses after failed fetches.
var retries = backoff.Policy{First: time.Second, Most: 30 * time.Second}

// Source holds the issuer's key set and keeps it up to date. Safe for concurrent use; it needs its Run.
type Source struct {
	c    Config
	log  *slog.Logger
	http *http.Client
	// onWithdrawn is called once with the prints of keys that are no longer in the set.
	onWithdrawn func(prints []string)
	started     time.Time

	set     atomic.Pointer[keySet]    // nil until the first fetch succeeded
	fetched atomic.Pointer[time.Time] // when the fetch of set began, nil until then

	mu          sync.Mutex // guards the following fields
	flight      *flight    // the fetch in progress, nil for none
	lastUnknown time.Time  // when an unknown kid last caused a fetch
	failing     bool       // whether the last fetch failed
}

// flight is a fetch in progress, which all callers of join share.
type flight struct {
	done chan struct{} // closed at the end, after err was set
	err  error
}

// NewSource makes a source, which needs its Run. onWithdrawn is called with the prints of keys that are no longer in the set. It must not
// block.
func NewSource(c Config, log *slog.Logger, onWithdrawn func(prints []string)) *Source {
	return &Source{c: c, log: log, onWithdrawn: onWithdrawn, started: time.Now(), http: &http.Client{
		Timeout:       fetchTimeout,
		Transport:     &http.Transport{Proxy: http.ProxyFromEnvironment, MaxResponseHeaderBytes: 64 << 10, ForceAttemptHTTP2: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Run fetches the set at once and then every Refresh, or sooner after a failure, until ctx ends.
func (s *Source) Run(ctx context.Context) error {
	defer s.http.CloseIdleConnections()
	for failures := 0; ; {
		f := s.join()
		select {
		case <-f.done:
		case <-ctx.Done():
			return nil
		}
		pause := s.c.Refresh - rand.N(s.c.Refresh/10+1) //nolint:gosec // spreads the pods' fetches
		if f.err != nil {
			failures++
			pause = min(retries.After(failures), s.c.Refresh)
		} else {
			failures = 0
		}
		if !backoff.Wait(ctx, pause) {
			return nil
		}
	}
}

// join returns the fetch in progress, or starts one.
func (s *Source) join() *flight {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.joinLocked()
}

func (s *Source) joinLocked() *flight {
	if s.flight == nil {
		s.flight = &flight{done: make(chan struct{})}
		go s.fly(s.flight)
	}
	return s.flight
}

// fly fetches the set once, within fetchTimeout, and ends the flight.
func (s *Source) fly(f *flight) {
	start := time.Now()
	set, err := s.fetch()
	var withdrawn []string
	if err == nil {
		before := s.set.Swap(set)
		s.fetched.Store(&start)
		withdrawn = missing(before, set)
	}
	s.mu.Lock()
	s.flight, f.err = nil, err
	changed := s.failing != (err != nil)
	s.failing = err != nil
	s.mu.Unlock()
	switch {
	case err != nil && changed:
		s.log.Warn("the issuer's key set cannot be fetched", "error", err, "age", s.age().String())
	case err == nil && changed:
		s.log.Info("the issuer's key set is fetched again", "keys", len(set.keys))
	}
	if len(withdrawn) > 0 {
		s.log.Info("keys left the issuer's key set", "count", len(withdrawn))
		s.onWithdrawn(withdrawn)
	}
	close(f.done)
}

// missing returns the prints in before that now lacks.
func missing(before, now *keySet) []string {
	var out []string
	if before != nil {
		for p := range before.prints {
			if !now.prints[p] {
				out = append(out, p)
			}
		}
	}
	return out
}

func (s *Source) fetch() (*keySet, error) {
	doc, err := s.document()
	if err != nil {
		return nil, err
	}
	set, err := parseKeySet(doc)
	if err != nil {
		return nil, err
	}
	if len(set.skipped) > 0 {
		s.log.Debug("keys of the issuer's key set are of no use", "keys", set.skipped)
	}
	if len(set.keys) == 0 {
		s.log.Warn("the issuer's key set has no key that can be used: no token will hold", "skipped", set.skipped)
	}
	return set, nil
}

func (s *Source) document() ([]byte, error) {
	if s.c.JWKSFile != "" {
		f, err := os.Open(s.c.JWKSFile)
		if err != nil {
			return nil, fmt.Errorf("open the key set: %w", err)
		}
		defer f.Close()
		return readDocument(f)
	}
	ctx, cancel := context.WithTimeout(context.Background(), fetchTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.c.JWKSURL, nil)
	if err != nil {
		return nil, fmt.Errorf("ask for the key set: %w", err)
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	res, err := s.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask for the key set: %w", err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("ask for the key set: the answer is %s", res.Status)
	}
	return readDocument(res.Body)
}

func readDocument(r io.Reader) ([]byte, error) {
	doc, err := io.ReadAll(io.LimitReader(r, maxDocument+1))
	if err != nil {
		return nil, fmt.Errorf("read the key set: %w", err)
	}
	if len(doc) > maxDocument {
		return nil, errors.New("read the key set: it is larger than 1 MiB")
	}
	return doc, nil
}

// current returns the set with which tokens are verified, or ErrUnavailable.
func (s *Source) current() (*keySet, error) {
	set := s.set.Load()
	if set == nil || s.age() > s.c.MaxStale {
		return nil, ErrUnavailable
	}
	return set, nil
}

// awaitRenewal waits for a newer set, because a token has an unknown kid. It joins a fetch in progress, or starts one if the last that an
// unknown kid caused is unknownEvery ago. Otherwise it returns at once.
func (s *Source) awaitRenewal(ctx context.Context) {
	s.mu.Lock()
	f := s.flight
	if f == nil && (s.lastUnknown.IsZero() || time.Since(s.lastUnknown) >= unknownEvery) {
		s.lastUnknown = time.Now()
		f = s.joinLocked()
	}
	s.mu.Unlock()
	if f == nil {
		return
	}
	select {
	case <-f.done:
	case <-ctx.Done():
	}
}

// age returns the time since the set was fetched, or since the start if it never was.
func (s *Source) age() time.Duration {
	if at := s.fetched.Load(); at != nil {
		return time.Since(*at)
	}
	return time.Since(s.started)
}

// Ready returns nil once the first fetch has succeeded, however old the set is now. Until then the pod can't serve external tokens.
func (s *Source) Ready() error {
	if s.set.Load() == nil {
		return ErrUnavailable
	}
	return nil
}

// Up returns nil while there is a key set that is not older than MaxStale.
func (s *Source) Up() error {
	_, err := s.current()
	return err
}

// Holds reports whether the present set has the key with that thumbprint. It costs one lookup in a map.
func (s *Source) Holds(thumbprint string) bool {
	set := s.set.Load()
	return set != nil && set.prints[thumbprint]
}
