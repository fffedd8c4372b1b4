// Command presence-watcher marks users offline whose last deadline has passed, and publishes that.
package main

import (
	"context"
	"log/slog"

	"github.com/parley-chat/parley/internal/config"
	"github.com/parley-chat/parley/internal/process"
)

func main() { process.Exit(process.Watcher, serve()) }

func serve() error {
	c, err := config.LoadWatcher()
	if err != nil {
		return err
	}
	return process.Serve(process.Watcher, &c.Common, func(ctx context.Context, log *slog.Logger) error { return run(ctx, &c, log) })
}
