package tstypes_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/parley-chat/parley/internal/httpapi/apidoc/tstypes"
)

var update = flag.Bool("update", false, "write the types anew")

func TestTheTypeScriptTypesAreCurrent(t *testing.T) {
	t.Parallel()
	for name, write := range map[string]func() (string, error){"frames.ts": tstypes.Frames, "rest.ts": tstypes.Rest} {
		want, err := write()
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(want, "unknown;") {
			t.Errorf("%s has a type that its schema does not define", name)
		}
		file := filepath.Join("..", "..", "..", "..", "clients", "typescript", "src", "gen", name)
		if *update {
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := os.ReadFile(file); err != nil || string(got) != want {
			t.Errorf("%s is not what the documents say; go generate ./clients writes it anew (%v)", file, err)
		}
	}
}
