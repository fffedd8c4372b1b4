package internal_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The recipes of docs/CONTRIBUTING.md name files and tests. A recipe with a file that was moved misleads its reader.
func TestRecipesNameWhatExists(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/CONTRIBUTING.md")
	if err != nil {
		t.Fatal(err)
	}
	_, recipes, found := strings.Cut(string(page), "\n## Recipes\n")
	if !found {
		t.Fatal("the page has no recipes")
	}
	tests := testNames(t)
	files := 0
	for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(recipes, -1) {
		name := m[1]
		switch {
		case strings.HasPrefix(name, "Test"):
			if !tests[name] {
				t.Errorf("there is no test %s", name)
			}
		case regexp.MustCompile(`^(migrations|internal|docs|charts|ops|cmd|scripts|test)/\S*$|^Dockerfile$`).MatchString(name):
			files++
			if _, err := os.Stat(filepath.Join("..", name)); err != nil {
				t.Errorf("there is no file %s", name)
			}
		}
	}
	if files < 20 {
		t.Errorf("only %d files were found in the recipes", files)
	}
	_, message, _ := strings.Cut(recipes, "### A new change of a message")
	message, _, _ = strings.Cut(message, "### An event")
	if rows := len(regexp.MustCompile(`(?m)^\| \d+ \|`).FindAllString(message, -1)); rows > 10 {
		t.Errorf("a new change of a message takes %d files, want 10 at most", rows)
	}
}

// testNames are the names of all tests of the repository.
func testNames(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	for _, f := range sourceFiles(t, "_test.go") {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllSubmatch(text, -1) {
			names[string(m[1])] = true
		}
	}
	return names
}
