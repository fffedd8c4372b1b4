package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/parley-chat/parley/internal/config"
	"github.com/parley-chat/parley/internal/invalid"
	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/process"
	"github.com/parley-chat/parley/internal/serverkey"
	"github.com/parley-chat/parley/internal/timestamp"
)

const keyTimeout = 30 * time.Second

const keyUsage = `usage: api key create --name NAME --scopes SCOPE,… [--expires 720h | 2027-01-01T00:00:00Z]
       api key list
       api key end ID
`

// key makes, lists and ends server keys in the database of the settings: the first has nobody to be made by.
func key(args []string) error {
	if len(args) == 0 {
		return usageOf(keyUsage)
	}
	d, err := config.LoadMigrate()
	if err != nil {
		return err
	}
	db, err := postgres.Open(postgres.Config{URL: d.URL, PgBouncer: d.PgBouncer, MaxConns: 1, Application: "parley-key"})
	if err != nil {
		return err
	}
	defer db.Close()
	ctx, cancel := context.WithTimeout(context.Background(), keyTimeout)
	defer cancel()
	keys := serverkey.NewService(db, "", slog.New(slog.NewJSONHandler(os.Stderr, nil)))
	switch {
	case args[0] == "create":
		return createKey(ctx, keys, args[1:])
	case args[0] == "list" && len(args) == 1:
		return listKeys(ctx, keys)
	case args[0] == "end" && len(args) == 2:
		return keys.End(ctx, args[1])
	}
	return usageOf(keyUsage)
}

func usageOf(text string) error {
	fmt.Fprint(os.Stderr, text)
	os.Exit(process.ExitSettings)
	return nil
}

// createKey prints only the new key, so that a script can use the output.
func createKey(ctx context.Context, keys *serverkey.Service, args []string) error {
	flags := flag.NewFlagSet("api key create", flag.ContinueOnError)
	name := flags.String("name", "", "the key's name")
	scopes := flags.String("scopes", "", "its scopes, comma separated")
	expires := flags.String("expires", "", "when it ends: a duration from now or a time; never if it is left out")
	if err := flags.Parse(args); err != nil || flags.NArg() > 0 {
		return usageOf(keyUsage)
	}
	d := serverkey.Draft{Name: *name}
	for _, s := range strings.Split(*scopes, ",") {
		if s = strings.TrimSpace(s); s != "" {
			d.Scopes = append(d.Scopes, s)
		}
	}
	var f invalid.Faults
	d.ExpiresAt = expiry(&f, *expires)
	d.Check(&f)
	if err := f.Err(); err != nil {
		return err
	}
	k, err := keys.Create(ctx, nil, &d)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(os.Stdout, k.Secret)
	return err
}

func expiry(f *invalid.Faults, s string) *timestamp.Time {
	if s == "" {
		return nil
	}
	if d, err := time.ParseDuration(s); err == nil {
		return &timestamp.Time{Time: time.Now().Add(d)}
	}
	at, err := time.Parse(time.RFC3339, s)
	if err != nil {
		f.Add("expires", "must be a duration such as 720h, or a time such as 2027-01-01T00:00:00Z")
	}
	return &timestamp.Time{Time: at}
}

func listKeys(ctx context.Context, keys *serverkey.Service) error {
	list, err := keys.List(ctx)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "ID\tNAME\tSCOPES\tCREATED\tEXPIRES\tLAST USED")
	for _, k := range list {
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", k.ID, quoted(k.Name), strings.Join(k.Scopes, ","), k.CreatedAt.UTC().Format(time.RFC3339), when(k.ExpiresAt), when(k.LastUsedAt))
	}
	return errors.Join(w.Flush())
}

// quoted keeps a name from writing into other columns.
func quoted(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		return "?"
	}
	return string(b)
}

func when(t *timestamp.Time) string {
	if t == nil {
		return "never"
	}
	return t.UTC().Format(time.RFC3339)
}
