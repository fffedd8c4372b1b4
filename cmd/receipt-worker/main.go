// Command receipt-worker writes batched read receipts to Postgres.
package main

import (
	"context"
	"log/slog"

	"github.com/parley-chat/parley/internal/config"
	"github.com/parley-chat/parley/internal/process"
)

func main() { process.Exit(process.Worker, serve()) }

func serve() error {
	c, err := config.LoadWorker()
	if err != nil {
		return err
	}
	return process.Serve(process.Worker, &c.Common, func(ctx context.Context, log *slog.Logger) error { return run(ctx, &c, log) })
}
