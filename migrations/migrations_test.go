package migrations_test

import (
	"fmt"
	"io/fs"
	"regexp"
	"strings"
	"testing"

	"github.com/parley-chat/parley/migrations"
)

// firstWithPods is the first migration that runs beside pods of a release.
const firstWithPods = "00003"

var (
	comments   = regexp.MustCompile(`(?m)--.*$`)
	created    = regexp.MustCompile(`CREATE TABLE (?:IF NOT EXISTS )?(\w+)`)
	locked     = regexp.MustCompile(`(?s)(?:ALTER TABLE|REFERENCES|UPDATE|INSERT INTO)\s+(\w+)|CREATE (?:OR REPLACE )?TRIGGER[^;]*?\sON\s+(\w+)`)
	concurrent = regexp.MustCompile(`CREATE (?:UNIQUE )?INDEX CONCURRENTLY (IF NOT EXISTS )?(\w+)`)
	ordinary   = regexp.MustCompile(`CREATE (?:UNIQUE )?INDEX (?:IF NOT EXISTS )?\w+ ON (\w+)`)
)

// Pods run while migrations do. So no migration holds a lock on one of their tables while it waits for another, which deadlocks with
// sends; an index on a table that has rows is built concurrently; and what an interrupted build left, which is not valid, goes first.
func TestMigrationsRunBesidePods(t *testing.T) {
	t.Parallel()
	names, err := fs.Glob(migrations.FS, "*.sql")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if name < firstWithPods {
			continue
		}
		b, err := fs.ReadFile(migrations.FS, name)
		if err != nil {
			t.Fatal(err)
		}
		for _, fault := range faults(string(b)) {
			t.Errorf("%s: %s", name, fault)
		}
	}
}

// faults are those of a migration's text.
func faults(text string) (out []string) {
	up, _, _ := strings.Cut(text, "-- +goose Down")
	transaction := !strings.Contains(up, "-- +goose NO TRANSACTION")
	up = comments.ReplaceAllString(up, "")
	own, others := map[string]bool{}, map[string]bool{}
	for _, m := range created.FindAllStringSubmatch(up, -1) {
		own[m[1]] = true
	}
	for _, m := range locked.FindAllStringSubmatch(up, -1) {
		if table := m[1] + m[2]; !own[table] {
			others[table] = true
		}
	}
	if transaction && len(others) > 1 {
		out = append(out, fmt.Sprintf("one transaction locks %d tables that were there before", len(others)))
	}
	for _, m := range ordinary.FindAllStringSubmatch(up, -1) {
		if !own[m[1]] {
			out = append(out, "an index on "+m[1]+" is not built concurrently")
		}
	}
	timeout := regexp.MustCompile(`SET lock_timeout = 0;|RESET lock_timeout;`)
	for _, m := range concurrent.FindAllStringSubmatchIndex(up, -1) {
		index := up[m[4]:m[5]]
		if m[2] >= 0 || !strings.Contains(up[:m[0]], "DROP INDEX CONCURRENTLY IF EXISTS "+index+";") {
			out = append(out, "what an interrupted build of "+index+" left is not dropped before")
		}
		if last := timeout.FindAllString(up[:m[0]], -1); len(last) == 0 || last[len(last)-1] != "SET lock_timeout = 0;" {
			out = append(out, "the build of "+index+" does not wait for long transactions")
		}
	}
	return out
}

// The check finds what it is for.
func TestFaultsOfMigrations(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int{
		"ALTER TABLE messages ADD a int; ALTER TABLE users ADD a int;":                                                        1,
		"-- +goose NO TRANSACTION\nALTER TABLE messages ADD a int; ALTER TABLE users ADD a int;":                              0,
		"CREATE TABLE a (b uuid REFERENCES users (id)); CREATE TRIGGER t AFTER UPDATE OF x ON messages":                       1,
		"CREATE TABLE a (b uuid REFERENCES users (id)); CREATE INDEX i ON a (b);":                                             0,
		"CREATE INDEX i ON messages (id);":                                                                                    1,
		"CREATE INDEX CONCURRENTLY IF NOT EXISTS i ON messages (id);":                                                         2,
		"SET lock_timeout = 0; DROP INDEX CONCURRENTLY IF EXISTS i; CREATE INDEX CONCURRENTLY i ON messages (id);":            0,
		"DROP INDEX CONCURRENTLY IF EXISTS i; CREATE INDEX CONCURRENTLY i ON messages (id);":                                  1,
		"ALTER TABLE messages ADD a int; -- ALTER TABLE users\n-- +goose Down\nALTER TABLE users DROP a;":                     0,
		"SET lock_timeout = 0; RESET lock_timeout; DROP INDEX CONCURRENTLY IF EXISTS i; CREATE INDEX CONCURRENTLY i ON a (b)": 1,
	} {
		if got := faults(text); len(got) != want {
			t.Errorf("%q: %q, want %d", text, got, want)
		}
	}
}
