package internal_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// otherWays are ways to Postgres that the house doesn't use. SQL has $1, $2 … and goes through internal/postgres, which reads
// rows; GORM is for typed models.
var otherWays = map[string]*regexp.Regexp{
	"SQL through GORM: use postgres.Exec, Column, Value or Collect":       regexp.MustCompile(`\b(?:tx|[Gg]orm\b[^\n]*)\.(?:Exec|Raw)\(`),
	"SQL as a condition of GORM: use a map, or write the whole statement": regexp.MustCompile("\\.(?:Where|Or|Not)\\([\"`]"),
	"? as a placeholder":                             regexp.MustCompile(`(?:[=<>(,]|OFFSET|LIMIT) \?|\(\?(?:,|\)|::)`),
	"a loop over rows: use postgres.Each or Collect": regexp.MustCompile(`\bfor \w+\.Next\(\)`),
}

func TestThereIsOneWayToPostgres(t *testing.T) {
	t.Parallel()
	files := 0
	for _, top := range []string{".", filepath.Join("..", "cmd")} {
		err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
			sql := strings.HasSuffix(path, ".sql")
			switch {
			case err != nil:
				return err
			case d.IsDir() && (path == "postgres" || path == "testenv"):
				return fs.SkipDir
			case d.IsDir(), !sql && (!strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go")):
				return nil
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			files++
			for what, way := range otherWays {
				if found := way.Find(text); found != nil {
					t.Errorf("%s has %q, %s", path, found, what)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if files < 100 {
		t.Errorf("only %d files were read", files)
	}
}
