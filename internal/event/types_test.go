package event_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"strings"
	"testing"

	"github.com/parley-chat/parley/internal/event"
)

// Types is the list that metrics and decoders go by: every constant of a type stands in it once.
func TestTypesAreAll(t *testing.T) {
	t.Parallel()
	file, err := parser.ParseFile(token.NewFileSet(), "types.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	declared := 0
	ast.Inspect(file, func(n ast.Node) bool {
		v, ok := n.(*ast.ValueSpec)
		if !ok || !strings.HasPrefix(v.Names[0].Name, "Type") || len(v.Values) == 0 {
			return true
		}
		lit, ok := v.Values[0].(*ast.BasicLit)
		if !ok {
			return true
		}
		typ, err := strconv.Unquote(lit.Value)
		if err != nil {
			t.Fatal(err)
		}
		declared++
		if !event.Known(typ) {
			t.Errorf("%s is not in Types", typ)
		}
		return true
	})
	if declared < 20 || declared != len(event.Types) {
		t.Errorf("%d types are declared, Types has %d", declared, len(event.Types))
	}
}
