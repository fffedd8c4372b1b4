package httpapi

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// inside are sentinels that no handler returns.
var inside = map[string]string{
	"postgres.ErrConflict":  "postgres.IsUnavailable reports it",
	"postgres.ErrLeaseLost": "ends a loop",
	"postgres.ErrUnchanged": "ends a transaction",
	"realtime.ErrDraining":  "closes a socket",
	"webhook.ErrSealed":     "a fault of the installation, which is a 500",
}

// Each exported sentinel of the packages that problem.go imports is in its table. One that is not would be a 500.
func TestEverySentinelHasAProblem(t *testing.T) {
	t.Parallel()
	files := token.NewFileSet()
	table, err := parser.ParseFile(files, "problem.go", nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	named := selectors(table)
	found := 0
	for _, i := range table.Imports {
		path, _ := strconv.Unquote(i.Path.Value)
		domain, ours := strings.CutPrefix(path, "github.com/parley-chat/parley/internal/")
		if !ours {
			continue
		}
		for _, name := range sentinels(t, files, domain) {
			found++
			if !named[name] && inside[name] == "" {
				t.Errorf("problem.go has no problem for %s", name)
			}
		}
	}
	if found < 40 {
		t.Errorf("only %d sentinels were found", found)
	}
}

// selectors are the names of other packages that a file uses: message.ErrNotFound.
func selectors(f *ast.File) map[string]bool {
	out := map[string]bool{}
	ast.Inspect(f, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok {
			if pkg, ok := s.X.(*ast.Ident); ok {
				out[pkg.Name+"."+s.Sel.Name] = true
			}
		}
		return true
	})
	return out
}

// sentinels are the exported errors that a package makes. Those of others under a name of its own don't count.
func sentinels(t *testing.T, files *token.FileSet, domain string) (out []string) {
	t.Helper()
	sources, err := filepath.Glob(filepath.Join("..", domain, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, source := range sources {
		if strings.HasSuffix(source, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(files, source, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if spec, ok := n.(*ast.ValueSpec); ok && strings.HasPrefix(spec.Names[0].Name, "Err") && len(spec.Values) == 1 {
				if _, made := spec.Values[0].(*ast.CallExpr); made {
					out = append(out, f.Name.Name+"."+spec.Names[0].Name)
				}
			}
			return true
		})
	}
	return out
}
