package internal_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/parley-chat/parley/"

// Domains know no other domain: what one needs of another it names as an interface, and cmd joins them.
var domains = []string{
	"attachment", "auth", "user", "friend", "conversation", "message", "presence", "receipt", "identity", "serverkey", "directory", "push",
}

// leaves know no domain, no realtime and no edge.
var leaves = []string{
	"audit", "backoff", "batch", "chat", "config", "cursor", "event", "fault", "history", "id", "invalid", "journal", "jsonbody", "lifecycle", "metadata",
	"objectstore", "observe", "outbound", "process",
	"periodic", "postgres", "principal", "ratelimit", "redisconn", "rediskey", "timestamp", "tracing",
}

// onlyIn are libraries that one package alone knows, or those named.
var onlyIn = map[string]string{
	"github.com/gofiber/":                   "internal/httpapi",
	"github.com/valyala/fasthttp":           "internal/httpapi",
	"github.com/spf13/viper":                "internal/config",
	"github.com/golang-jwt/":                "internal/auth internal/identity internal/issuer internal/push",
	"github.com/SherClockHolmes/webpush-go": "internal/push",
	"github.com/MicahParks/jwkset":          "internal/identity internal/issuer",
	"github.com/hibiken/asynq":              "internal/receipt internal/periodic",
	"github.com/alexedwards/argon2id":       "internal/auth",
	"github.com/minio/":                     "internal/objectstore internal/testenv",
	"github.com/pressly/goose/":             "migrations internal/testenv",
	"gorm.io/driver/postgres":               "internal/postgres",
	"github.com/fasthttp/websocket":         "internal/httpapi internal/client",
	"github.com/swaggest/swgui/v5emb":       "internal/httpapi",
	"go.opentelemetry.io/otel/sdk":          "internal/tracing",
	"go.opentelemetry.io/otel/exporters":    "internal/tracing",
	"go.opentelemetry.io/proto/":            "internal/tracing",
	"github.com/redis/go-redis/extra":       "internal/tracing",
	"github.com/exaring/otelpgx":            "internal/tracing",
}

func TestImportsPointInward(t *testing.T) {
	t.Parallel()
	domain, leaf := map[string]bool{}, map[string]bool{}
	for _, d := range domains {
		domain["internal/"+d] = true
	}
	for _, l := range leaves {
		leaf["internal/"+l] = true
	}
	seen := 0
	walk(t, func(pkg, imported string) {
		seen++
		own, ours := strings.CutPrefix(imported, module)
		for lib, home := range onlyIn {
			knows := func(h string) bool { return pkg == h || strings.HasPrefix(pkg, h+"/") }
			if strings.HasPrefix(imported, lib) && !slices.ContainsFunc(strings.Fields(home), knows) {
				t.Errorf("%s imports %s, which only %s may", pkg, imported, home)
			}
		}
		if !ours {
			return
		}
		switch {
		case strings.HasPrefix(own, "cmd/"):
			t.Errorf("%s imports %s", pkg, own)
		case strings.HasPrefix(own, "internal/httpapi") && !strings.HasPrefix(pkg, "cmd/") && !strings.HasPrefix(pkg, "internal/httpapi"):
			t.Errorf("%s imports the edge", pkg)
		case domain[pkg] && (domain[own] || strings.HasPrefix(own, "internal/realtime")):
			t.Errorf("the domain %s imports %s: name an interface", pkg, own)
		case own == "internal/realtime/wire" && pkg != "internal/realtime":
			t.Errorf("%s knows what events look like on the wire", pkg)
		case strings.HasPrefix(pkg, "internal/realtime") && domain[own]:
			t.Errorf("realtime imports the domain %s: name an interface", own)
		case leaf[pkg] && !leaf[own] && own != "migrations":
			t.Errorf("the leaf %s imports %s", pkg, own)
		case own == "internal/testenv" && pkg != "internal/testenv" && !strings.HasPrefix(pkg, "bench"):
			t.Errorf("%s imports testenv outside its tests", pkg)
		}
	})
	if seen < 100 {
		t.Fatalf("only %d imports were seen", seen)
	}
}

// walk calls f for every import of every file that is no test.
func walk(t *testing.T, f func(pkg, imported string)) {
	t.Helper()
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	for _, top := range []string{"cmd", "internal", "migrations"} {
		err := filepath.WalkDir(filepath.Join(root, top), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
			if err != nil {
				return err
			}
			dir, err := filepath.Rel(root, filepath.Dir(path))
			if err != nil {
				return err
			}
			for _, i := range file.Imports {
				imported, err := strconv.Unquote(i.Path.Value)
				if err != nil {
					return err
				}
				f(filepath.ToSlash(dir), imported)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
