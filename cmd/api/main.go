// Command api serves Parley's REST and sockets.
//
//	api [serve]   serves until SIGTERM or SIGINT
//	api migrate   brings the database up to the newest schema and exits
//	api verify    checks the settings, logs in to Postgres and Redis, and exits
//	api key …     makes, lists and ends server keys
//	api push keys prints a new pair of keys for web push
//	api check URL checks that the Parley at the address is ready, has two people chat over it, and exits
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/parley-chat/parley/internal/config"
	"github.com/parley-chat/parley/internal/process"
	"github.com/parley-chat/parley/migrations"
)

const (
	// exitUnreachable says that a database could not be reached; everything that could be checked was right.
	exitUnreachable = 3
	// migrateWait is how long api migrate waits for a database that cannot be reached. Migrations themselves take as long as they need.
	migrateWait = 10 * time.Minute
	// migrateProgress is the time between two lines about a migration that runs.
	migrateProgress = 30 * time.Second
)

func main() {
	command := "serve"
	if len(os.Args) > 1 {
		command = os.Args[1]
	}
	var err error
	switch command {
	case "serve":
		err = serve()
	case "migrate":
		err = migrate()
	case "verify":
		err = verify(os.Args[2:])
	case "key":
		err = key(os.Args[2:])
	case "push":
		err = pushCommand(os.Args[2:])
	case "check":
		err = check(os.Args[2:])
	default:
		usage()
	}
	if errors.Is(err, errUnreachable) && !config.IsFault(err) {
		fmt.Fprintln(os.Stderr, "api:", err)
		os.Exit(exitUnreachable)
	}
	process.Exit(process.API, err)
}

func usage() {
	fmt.Fprintf(os.Stderr, "usage: %s [serve | migrate | verify [-wait 30s] [-unreachable warn] | key create|list|end … | push keys | check URL]\n", os.Args[0])
	os.Exit(process.ExitSettings)
}

func serve() error {
	c, err := config.LoadAPI()
	if err != nil {
		return err
	}
	return process.Serve(process.API, &c.Common, func(ctx context.Context, log *slog.Logger) error { return run(ctx, &c, log) })
}

func migrate() error {
	d, err := config.LoadMigrate()
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	log := slog.New(slog.NewJSONHandler(os.Stderr, nil))
	reachable, cancel := context.WithTimeout(ctx, migrateWait)
	defer cancel()
	if err := migrations.Await(reachable, d.MigrateURL, log); errors.Is(err, migrations.ErrRefused) {
		return config.Fault("DATABASE_URL", "(or its parts) does not work: %v", err)
	} else if err != nil {
		return err
	}
	if err := migrations.Up(ctx, d.MigrateURL, migrations.Progress{Log: log, Every: migrateProgress}); err != nil {
		return err
	}
	log.Info("the schema is current", "version", migrations.Newest())
	return nil
}
