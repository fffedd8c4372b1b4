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
	// fetchTimeout bounds a whole fetch, maxDocument the size of a key set.
	fetchTimeout = 5 * time.Second
	maxDocument  = 1 << 20
	// unknownEvery is how often an unknown kid may have the set fetched: anybody can make one up.
	unknownEvery = 30 * time.Second
)

// retries are the pauses after fetches that failed.
var retries = backoff.Policy{First: time.Second, Most: 30 * time.Second}

// Source holds the issuer's key set and keeps it fresh. Its methods may be called by any goroutine; Run has to run for it to work.
type Source struct {
	c    Config
	log  *slog.Logger
	http *http.Client
	// onWithdrawn gets the prints of keys that left the set, once.
	onWithdrawn func(prints []string)
	started     time.Time

	set     atomic.Pointer[keySet]    // nil until there was one
	fetched atomic.Pointer[time.Time] // when the fetch of set began

	mu          sync.Mutex // guards what follows
	flight      *flight    // nil while nothing is fetched
	lastUnknown time.Time
	failing     bool
}

// flight is a fetch under way, shared by everybody who wants one.
type flight struct {
	done chan struct{} // closed when it is over; err is set before
	err  error
}

// NewSource makes a source. onWithdrawn gets the prints of keys that left the set; it must not block.
func NewSource(c Config, log *slog.Logger, onWithdrawn func(prints []string)) *Source {
	return &Source{c: c, log: log, onWithdrawn: onWithdrawn, started: time.Now(), http: &http.Client{
		Timeout:       fetchTimeout,
		Transport:     &http.Transport{Proxy: http.ProxyFromEnvironment, MaxResponseHeaderBytes: 64 << 10, ForceAttemptHTTP2: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Run fetches the set at once and then at every refresh, sooner after a failure, until ctx ends.
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

// fly fetches once. It ends within fetchTimeout.
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

// missing are the prints of before that now has not.
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

// current is the set to hold tokens against, or ErrUnavailable.
func (s *Source) current() (*keySet, error) {
	set := s.set.Load()
	if set == nil || s.age() > s.c.MaxStale {
		return nil, ErrUnavailable
	}
	return set, nil
}

// renewed waits, because of an unknown kid, for a set that is newer than the one in use. A fetch that is under way will do; a new one
// is begun at most once in unknownEvery. It returns at once where neither is to be had.
func (s *Source) renewed(ctx context.Context) {
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

// age is the time since the set was fetched, or since the start if it never was.
func (s *Source) age() time.Duration {
	if at := s.fetched.Load(); at != nil {
		return time.Since(*at)
	}
	return time.Since(s.started)
}

// Ready is nil once there was a key set: until then a pod serves nobody who needs one.
func (s *Source) Ready() error {
	if s.set.Load() == nil {
		return ErrUnavailable
	}
	return nil
}

// Up is nil while tokens can be held against a key set that is not too old.
func (s *Source) Up() error {
	_, err := s.current()
	return err
}

// Holds reports whether the key of that print is in the set in use. It costs a look into a map.
func (s *Source) Holds(print string) bool {
	set := s.set.Load()
	return set != nil && set.prints[print]
}
