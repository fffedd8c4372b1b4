// Command issuer is a product's identity provider in small, for make run: it serves a key set, and gives anybody on this machine a token
// for any user. Its address is its only argument.
//
//	GET  /jwks                                  the key set, which Parley fetches
//	POST /token?sub=ana&name=Ana&picture=https… a token for an hour
package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/parley-chat/parley/internal/issuer"
)

// Name and audience of the tokens: PARLEY_AUTH_ISSUER and PARLEY_AUTH_AUDIENCE in scripts/run.sh.
const (
	name     = "http://issuer.localhost"
	audience = "chat"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: issuer HOST:PORT")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "issuer:", err)
		os.Exit(1)
	}
}

func run(addr string) error {
	key, err := issuer.NewKey(time.Now().UTC().Format("20060102T150405"), "ES256")
	if err != nil {
		return err
	}
	i := issuer.New(name, audience)
	i.Publish(key)
	mux := http.NewServeMux()
	mux.Handle("GET /jwks", i)
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, r *http.Request) { giveToken(w, r, i) })
	server := &http.Server{Addr: addr, Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	context.AfterFunc(ctx, func() { _ = server.Close() })
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}

// giveToken answers with a token for the user whom the query names. A page of another origin must not get one.
func giveToken(w http.ResponseWriter, r *http.Request, i *issuer.Issuer) {
	q := r.URL.Query()
	if q.Get("sub") == "" || r.Header.Get("Origin") != "" {
		http.Error(w, "sub is required, and no page may ask", http.StatusBadRequest)
		return
	}
	claims := map[string]any{}
	for _, c := range []string{"name", "picture"} {
		if v := q.Get(c); v != "" {
			claims[c] = v
		}
	}
	token, err := i.Token(q.Get("sub"), claims)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_, _ = fmt.Fprintln(w, token)
}
