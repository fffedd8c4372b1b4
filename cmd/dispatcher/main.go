// Command dispatcher delivers webhooks and push notifications.
package main

import (
	"context"
	"log/slog"

	"github.com/parley-chat/parley/internal/config"
	"github.com/parley-chat/parley/internal/process"
)

func main() { process.Exit(process.Dispatcher, serve()) }

func serve() error {
	c, err := config.LoadDispatcher()
	if err != nil {
		return err
	}
	return process.Serve(process.Dispatcher, &c.Common, func(ctx context.Context, log *slog.Logger) error { return run(ctx, &c, log) })
}
