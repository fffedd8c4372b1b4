package internal_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// unwanted are words that we don't use in Go, Markdown and YAML, with those that we write instead (docs/CONTRIBUTING.md, Language).
var unwanted = []struct{ pattern, instead string }{
	{`\b(?:tell|tells|told|telling)\b`, "publish, deliver, notify, report, return, say"},
	{`\b(?:Redis|Postgres|it|storage|database|dependency) (?:is|was|are|were) away\b`, "is unavailable"},
	{`\bfor ever\b`, "permanently"},
	{`\bas good as\b`, "equivalent to"},
	{`\blets us in\b`, "login succeeded"},
	{`\bby (?:itself|themselves|oneself)\b`, "automatically, alone"},
	{`\b(?:whoever|of whom|one's own|in vain)\b`, "name the subject: the user, the caller, the client"},
	{`\bwhat is already so\b`, "unchanged"},
}

func TestWords(t *testing.T) {
	t.Parallel()
	var patterns []*regexp.Regexp
	for _, u := range unwanted {
		patterns = append(patterns, regexp.MustCompile(u.pattern))
	}
	for _, f := range sourceFiles(t, ".go", ".md", ".yaml", ".yml") {
		name := filepath.ToSlash(strings.TrimPrefix(f, ".."+string(filepath.Separator)))
		if name == "internal/wording_test.go" {
			continue
		}
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for n, line := range bytes.Split(text, []byte("\n")) {
			for i, p := range patterns {
				if m := p.Find(line); m != nil {
					t.Errorf("%s:%d: %q: write %s", name, n+1, m, unwanted[i].instead)
				}
			}
		}
	}
}

// sourceFiles are the files of the repository with one of the endings, as paths from here, without generated ones.
func sourceFiles(t *testing.T, endings ...string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (slices.Contains([]string{"node_modules", "testdata", "dist", "bin", "gen"}, d.Name()) || strings.HasPrefix(d.Name(), ".") && path != ".."):
			return filepath.SkipDir
		case d.Type().IsRegular() && slices.ContainsFunc(endings, func(e string) bool { return strings.HasSuffix(path, e) }):
			out = append(out, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out) < 20 {
		t.Fatalf("only %d files were found", len(out))
	}
	return out
}
