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
		f, err := elf.Open(testenv.Binary(t, name))
		if err != nil {
			t.Fatal(err)
		}
		symbols, err := f.Symbols()
		_ = f.Close()
		if err != nil {
			t.Fatal(err)
		}
		linked := map[string]string{}
		for _, s := range symbols {
			for _, n := range not {
				if elf.ST_TYPE(s.Info) == elf.STT_FUNC && strings.HasPrefix(s.Name, n) {
					linked[n] = s.Name
				}
			}
		}
		for _, symbol := range linked {
			t.Errorf("%s links %s", name, symbol)
		}
	}
}
