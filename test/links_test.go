package test

import (
	"debug/elf"
	"strings"
	"testing"

	"github.com/parley-chat/parley/internal/testenv"
)

// Each process links only what it runs: the image has four binaries. The methods named here make the linker keep all exported methods of
// everything in a binary (it doesn't know which are called by reflection), a third of its size.
func TestEachProcessLinksOnlyWhatItRuns(t *testing.T) {
	t.Parallel()
	const grpc, gorm, fiber, asynq, templates = "google.golang.org/grpc.", "gorm.io/gorm.(*DB)", "github.com/gofiber/fiber", "github.com/hibiken/asynq",
		"text/template.(*state)"
	for name, not := range map[string][]string{
		"api":              {grpc},
		"presence-watcher": {grpc, gorm, fiber, templates, asynq},
		"receipt-worker":   {grpc, gorm, fiber, templates},
		"dispatcher":       {grpc, fiber, templates},
	} {
		t.Run(name, func(t *testing.T) {
			for prefix, symbol := range linkedFunctions(t, testenv.Binary(t, name), not) {
				t.Errorf("it links %s, want nothing of %s", symbol, prefix)
			}
		})
	}
}

// linkedFunctions are the functions of a binary with one of the prefixes, one for each prefix.
func linkedFunctions(t *testing.T, binary string, prefixes []string) map[string]string {
	t.Helper()
	f, err := elf.Open(binary)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	symbols, err := f.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	linked := map[string]string{}
	for _, s := range symbols {
		if elf.ST_TYPE(s.Info) != elf.STT_FUNC {
			continue
		}
		for _, prefix := range prefixes {
			if strings.HasPrefix(s.Name, prefix) {
				linked[prefix] = s.Name
			}
		}
	}
	return linked
}
