// Command playground is what `make run` has beside Parley to try it out: people and messages, made once, and the page /demo, on which
// two people chat over two pods while one of their networks, a pod or Redis is taken away. It is no part of Parley: only `make run`
// starts it, on a loopback address.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/parley-chat/parley/scripts/playground/seed"
)

const headerTimeout = 5 * time.Second

type options struct {
	addr  string
	pods  []string // of the form NAME=URL
	dir   string   // with the processes' ids, .run
	redis string
	seed  bool
}

func main() {
	var o options
	var pods string
	flag.StringVar(&o.addr, "addr", "127.0.0.1:8083", "where the page is served")
	flag.StringVar(&pods, "pods", "api-1=http://127.0.0.1:8081,api-2=http://127.0.0.1:8082", "the pods of the two people")
	flag.StringVar(&o.dir, "dir", ".run", "the folder with the processes' ids")
	flag.StringVar(&o.redis, "redis", "", "process, container:NAME, or nothing if Redis is not to be stopped")
	flag.BoolVar(&o.seed, "seed", false, "make people and messages")
	flag.Parse()
	o.pods = strings.Split(pods, ",")
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "playground:", err)
		os.Exit(1)
	}
}

func run(o options) error {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	s, err := newServer(o)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, l := range s.lines {
		g.Go(func() error { return l.run(ctx) })
	}
	g.Go(func() error { return serve(ctx, o.addr, s) })
	if o.seed {
		g.Go(func() error {
			sow(ctx, s.lines[0].pod)
			return nil
		})
	}
	err = g.Wait()
	s.faults.end()
	return err
}

// sow makes people and messages and prints how it went. The page works without them.
func sow(ctx context.Context, url string) {
	r, err := (&seed.Seeder{URL: url, Key: os.Getenv("PARLEY_BOOTSTRAP_KEY")}).Run(ctx)
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "playground: no people and messages to try:", err)
	case r.Fresh:
		fmt.Printf("Seeded: %d people and %d messages, in %.1f s.\n", r.People, r.Messages, r.Took.Seconds())
	}
}

func serve(ctx context.Context, addr string, h http.Handler) error {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	if ip := l.Addr().(*net.TCPAddr).IP; !ip.IsLoopback() {
		return errors.Join(fmt.Errorf("%s is not a loopback address", ip), l.Close())
	}
	srv := &http.Server{Handler: h, ReadHeaderTimeout: headerTimeout}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
