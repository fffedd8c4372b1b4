// Command dispatcher delivers webhooks and push notifications.
package main

import (
	"fmt"
	"os"

	"github.com/parley-chat/parley/internal/config"
	"github.com/parley-chat/parley/internal/lifecycle"
	"github.com/parley-chat/parley/internal/observe"
)

const (
	exitFailed   = 1
	exitSettings = 2
)

func main() {
	if err := serve(); err != nil {
		fmt.Fprintln(os.Stderr, "dispatcher:", err)
		if config.IsFault(err) {
			os.Exit(exitSettings)
		}
		os.Exit(exitFailed)
	}
}

func serve() error {
	c, err := config.LoadDispatcher()
	if err != nil {
		return err
	}
	log := observe.NewLogger(os.Stderr, "dispatcher", c.LogFormat, c.LogLevel)
	lifecycle.LimitMemory(log)
	ctx, cancel := lifecycle.Signals(log)
	defer cancel()
	return run(ctx, c, log)
}
