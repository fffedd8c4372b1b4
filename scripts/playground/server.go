package main

import (
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"strconv"
	"strings"

	"github.com/parley-chat/parley/scripts/playground/seed"
)

//go:embed all:dist
var built embed.FS

// server serves the page and its control endpoint.
type server struct {
	lines  []*line
	faults *faults
	mux    http.ServeMux
	policy string
}

func newServer(o options) (*server, error) {
	s := &server{faults: &faults{dir: o.dir, redis: o.redis, pause: redisPause}}
	reach := []string{"'self'"}
	for _, p := range o.pods {
		name, url, ok := strings.Cut(p, "=")
		if !ok {
			return nil, fmt.Errorf("a pod is NAME=URL, not %q", p)
		}
		l, err := newLine(name, url)
		if err != nil {
			return nil, err
		}
		s.lines = append(s.lines, l)
		reach = append(reach, "http://"+l.address(), "ws://"+l.address())
	}
	s.policy = strings.Join([]string{
		"default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self' data:", "connect-src " + strings.Join(reach, " "),
		"require-trusted-types-for 'script'", "trusted-types 'none'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'",
	}, "; ")
	dist, err := fs.Sub(built, "dist")
	if err != nil {
		return nil, err
	}
	s.mux.Handle("GET /assets/", http.StripPrefix("/assets/", http.FileServerFS(dist)))
	s.mux.HandleFunc("GET /demo", func(w http.ResponseWriter, r *http.Request) { http.ServeFileFS(w, r, dist, "demo.html") })
	s.mux.Handle("GET /{$}", http.RedirectHandler("/demo", http.StatusFound))
	s.mux.HandleFunc("GET /control", s.state)
	s.mux.HandleFunc("POST /control/cut/{person}", s.onLine(func(l *line) error { l.set(true); return nil }))
	s.mux.HandleFunc("POST /control/mend/{person}", s.onLine(func(l *line) error { l.set(false); return nil }))
	s.mux.HandleFunc("POST /control/kill/{person}", s.onLine(func(l *line) error { return s.faults.kill(l.name) }))
	s.mux.HandleFunc("POST /control/redis", func(w http.ResponseWriter, r *http.Request) { s.done(w, r, s.faults.stopRedis()) })
	return s, nil
}

// ServeHTTP refuses what does not come from the page itself: another site's page must not end processes, nor reach this one under a
// name of its own that leads to this machine.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	host, _, err := net.SplitHostPort(r.Host)
	local := err == nil && (host == "127.0.0.1" || host == "localhost" || host == "::1")
	if !local || (r.Method != http.MethodGet && r.Header.Get("Origin") != "http://"+r.Host) {
		http.Error(w, "only the page /demo of this machine may ask this", http.StatusForbidden)
		return
	}
	w.Header().Set("Content-Security-Policy", s.policy)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Referrer-Policy", "no-referrer")
	w.Header().Set("Cache-Control", "no-cache")
	s.mux.ServeHTTP(w, r)
}

type personState struct {
	Username string `json:"username"`
	Pod      string `json:"pod"`
	URL      string `json:"url"`
	Cut      bool   `json:"cut"`
}

// state is who chats over which pod, and which faults there are.
func (s *server) state(w http.ResponseWriter, _ *http.Request) {
	people := make([]personState, len(s.lines))
	for i, l := range s.lines {
		people[i] = personState{seed.People()[i], l.name, "http://" + l.address(), l.isCut()}
	}
	answer(w, map[string]any{
		"people": people, "password": seed.Password, "canStopRedis": s.faults.canStopRedis(), "redisStopped": s.faults.redisStopped(),
	})
}

func (s *server) onLine(do func(*line) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		i, err := strconv.Atoi(r.PathValue("person"))
		if err != nil || i < 0 || i >= len(s.lines) {
			http.NotFound(w, r)
			return
		}
		s.done(w, r, do(s.lines[i]))
	}
}

func (s *server) done(w http.ResponseWriter, r *http.Request, err error) {
	switch {
	case errors.Is(err, errNoRedis), errors.Is(err, errStopped):
		http.Error(w, err.Error(), http.StatusConflict)
	case err != nil:
		http.Error(w, err.Error(), http.StatusBadGateway)
	default:
		s.state(w, r)
	}
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}
