package test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/parley-chat/parley/internal/testenv"
)

const modulePath = "github.com/parley-chat/parley/"

// logSearch is a command of the documents that searches the log of one component, or of all, for a text.
var logSearch = regexp.MustCompile(`kubectl .*\blogs -l app\.kubernetes\.io/(?:component=([\w-]+)|instance=parley)\b.*\| grep (?:-E )?'([^']+)'`)

// searchedAttributes are texts that are no message, but the value of an attribute, and where they come from.
var searchedAttributes = map[string]string{
	`"level":"ERROR"`:   "slog's level",
	"attachments:sweep": "the name of the task of a message by internal/periodic",
	"asynq":             "the part of the messages that asynq logs",
}

// search is one log search of a document.
type search struct{ document, component, text string }

// logSearches are the searches of all documents, one for each text.
func logSearches(t *testing.T, root string) []search {
	t.Helper()
	var files []string
	for _, pattern := range []string{"docs/*.md", "docs/*/*.md"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil || len(found) == 0 {
			t.Fatalf("no documents: %v", err)
		}
		files = append(files, found...)
	}
	var out []search
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range logSearch.FindAllStringSubmatch(string(b), -1) {
			for _, text := range alternatives(m[2]) {
				out = append(out, search{filepath.Base(file), m[1], text})
			}
		}
	}
	return out
}

// Each text for which a document searches a component's log is in a message that this component logs.
func TestLogSearchesFindMessages(t *testing.T) {
	t.Parallel()
	root := testenv.Root(t)
	source, searches := readLogging(t, root), logSearches(t, root)
	for _, s := range searches {
		if searchedAttributes[s.text] == "" && !source.logs(s.component, s.text) {
			t.Errorf("%s searches the log of %q for %q, which is in none of its messages", s.document, s.component, s.text)
		}
	}
	if len(searches) < 20 {
		t.Errorf("there are %d searches", len(searches))
	}
}

// The check above fails if a text is in no message, and if the component is not the one that logs it.
func TestLogSearchesThatFindNothing(t *testing.T) {
	t.Parallel()
	source := readLogging(t, testenv.Root(t))
	for _, search := range []struct {
		component, text string
		found           bool
	}{
		{"api", "redis is unavailable", true},
		{"", "redis is unavailable", true},
		{"api", "redis is on holiday", false},
		{"presence-watcher", "deadlines cannot be swept", true},
		{"dispatcher", "deadlines cannot be swept", false},
	} {
		if found := source.logs(search.component, search.text); found != search.found {
			t.Errorf("%q in the log of %q: %v", search.text, search.component, found)
		}
	}
	if got, want := alternatives("(a|b) is (un)?ready|c"), []string{"a is ready", "a is unready", "b is ready", "b is unready", "c"}; !slices.Equal(got, want) {
		t.Errorf("the alternatives are %q, want %q", got, want)
	}
}

var innermost = regexp.MustCompile(`\(([^()]*)\)(\??)`)

// alternatives are the texts that a pattern of grep -E matches. A pattern may have groups, alternatives and optional groups only.
func alternatives(pattern string) []string {
	var out []string
	if at := innermost.FindStringSubmatchIndex(pattern); at != nil {
		inner := strings.Split(pattern[at[2]:at[3]], "|")
		if at[4] < at[5] {
			inner = append(inner, "")
		}
		for _, s := range inner {
			out = append(out, alternatives(pattern[:at[0]]+s+pattern[at[1]:])...)
		}
	} else {
		out = strings.Split(pattern, "|")
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// logging is what each package of the module logs and imports, by its folder.
type logging struct {
	messages map[string][]string
	imports  map[string][]string
}

// readLogging reads cmd and internal.
func readLogging(t *testing.T, root string) logging {
	t.Helper()
	l := logging{messages: map[string][]string{}, imports: map[string][]string{}}
	for _, top := range []string{"cmd", "internal"} {
		err := filepath.WalkDir(filepath.Join(root, top), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			folder, err := filepath.Rel(root, filepath.Dir(path))
			l.read(filepath.ToSlash(folder), file)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return l
}

// logCall is how a function that logs is called: slog's, the packages' own warn, and the outages of observe.
var logCall = regexp.MustCompile(`^((Debug|Info|Warn|Error)(Context)?|Log|LogAttrs|warn|NewOutage)$`)

func (l logging) read(folder string, file *ast.File) {
	for _, i := range file.Imports {
		if path, err := strconv.Unquote(i.Path.Value); err == nil && strings.HasPrefix(path, modulePath) {
			l.imports[folder] = append(l.imports[folder], strings.TrimPrefix(path, modulePath))
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || !logCall.MatchString(calledName(call)) {
			return true
		}
		literals := stringLiterals(call.Args)
		if calledName(call) != "NewOutage" { // which has two messages; what follows slog's is a key
			literals = literals[:min(1, len(literals))]
		}
		l.messages[folder] = append(l.messages[folder], literals...)
		return true
	})
}

func stringLiterals(args []ast.Expr) []string {
	var out []string
	for _, arg := range args {
		if lit, ok := arg.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			if s, err := strconv.Unquote(lit.Value); err == nil {
				out = append(out, s)
			}
		}
	}
	return out
}

// calledName is the name of the function or method, without its package or receiver.
func calledName(call *ast.CallExpr) string {
	switch f := call.Fun.(type) {
	case *ast.Ident:
		return f.Name
	case *ast.SelectorExpr:
		return f.Sel.Name
	}
	return ""
}

// logs reports whether a component, "" for any, has a message that contains the text, in its own package or one that it imports.
func (l logging) logs(component, text string) bool {
	if component == "" {
		for folder := range l.messages {
			if l.has(folder, text) {
				return true
			}
		}
		return false
	}
	if component == "migrate" { // a command of the api
		component = "api"
	}
	seen := map[string]bool{}
	next := []string{"cmd/" + component}
	for len(next) > 0 {
		folder := next[0]
		next = next[1:]
		if seen[folder] {
			continue
		}
		seen[folder] = true
		if l.has(folder, text) {
			return true
		}
		next = append(next, l.imports[folder]...)
	}
	return false
}

func (l logging) has(folder, text string) bool {
	return slices.ContainsFunc(l.messages[folder], func(m string) bool { return strings.Contains(m, text) })
}
