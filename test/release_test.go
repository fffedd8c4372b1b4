package test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/parley-chat/parley/internal/testenv"
)

// A release is made twice, of copies of the sources in different folders, and is the same to the byte. Images are left out: they need
// docker. One platform is enough to see it.
func TestReleaseRepeats(t *testing.T) {
	t.Parallel()
	first, second := releaseOfACopy(t), releaseOfACopy(t)
	sums := checksums(t, first)
	if again := checksums(t, second); sums != again {
		t.Errorf("the second release differs:\n%s\n%s", sums, again)
	}
	for _, want := range []string{"RELEASE_NOTES.md", "parley-0.0.0-dryrun.tgz", "parley_0.0.0-dryrun.cdx.json", "parley_0.0.0-dryrun_linux_" + runtime.GOARCH + ".tar.gz"} {
		if !strings.Contains(sums, "  "+want+"\n") {
			t.Errorf("the checksums lack %s:\n%s", want, sums)
		}
	}
	releaseHolds(t, first)
}

// releaseOfACopy copies the sources into a folder of their own, makes a release from them and returns its folder.
func releaseOfACopy(t *testing.T) (dir string) {
	t.Helper()
	root := testenv.Root(t)
	source, dist := filepath.Join(t.TempDir(), "sources"), t.TempDir()
	if err := os.Mkdir(source, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"cmd", "internal", "migrations", "charts", "scripts", "go.mod", "go.sum", "CHANGELOG.md", "LICENSE", "README.md"} {
		if out, err := exec.Command("cp", "-R", filepath.Join(root, part), source).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	cmd := exec.Command(filepath.Join(source, "scripts/release.sh"), "0.0.0-dryrun")
	cmd.Env = append(os.Environ(), "NO_IMAGE=1", "PLATFORMS=linux/"+runtime.GOARCH, "DIST="+dist, "SOURCE_DATE_EPOCH=1700000000", "COMMIT=of-the-test", "COSIGN_KEY=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("release: %v\n%s", err, out)
	}
	return dist + "/0.0.0-dryrun/"
}

func checksums(t *testing.T, dist string) string {
	t.Helper()
	b, err := os.ReadFile(dist + "SHA256SUMS")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// releaseHolds looks into what was made.
func releaseHolds(t *testing.T, dist string) {
	t.Helper()
	list := func(args ...string) string {
		out, err := exec.Command("tar", args...).CombinedOutput()
		if err != nil {
			t.Fatalf("tar %v: %v: %s", args, err, out)
		}
		return string(out)
	}
	names := list("-tzf", dist+"parley_0.0.0-dryrun_linux_"+runtime.GOARCH+".tar.gz")
	programs, _ := filepath.Glob(filepath.Join(testenv.Root(t), "cmd/*"))
	for _, p := range programs {
		if !strings.Contains(names, "/"+filepath.Base(p)+"\n") {
			t.Errorf("the archive lacks %s: %s", filepath.Base(p), names)
		}
	}
	chart := list("-xzOf", dist+"parley-0.0.0-dryrun.tgz", "parley/Chart.yaml")
	if !strings.Contains(chart, "\nversion: 0.0.0-dryrun\n") || !strings.Contains(chart, "\nappVersion: \"0.0.0-dryrun\"\n") {
		t.Errorf("the chart is of another version: %s", chart)
	}
	b, err := os.ReadFile(dist + "parley_0.0.0-dryrun.cdx.json")
	if err != nil {
		t.Fatal(err)
	}
	var bom struct {
		BomFormat    string
		Components   []struct{ Type, Name, Version string }
		Dependencies []struct{ Ref string }
	}
	if err := json.Unmarshal(b, &bom); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, c := range bom.Components {
		if c.Version == "" {
			t.Errorf("%s has no version", c.Name)
		}
		seen[c.Type+" "+c.Name] = true
	}
	for _, want := range []string{"application api", "application presence-watcher", "application receipt-worker", "library stdlib", "library github.com/jackc/pgx/v5", "library github.com/redis/go-redis/v9"} {
		if !seen[want] {
			t.Errorf("the bill of materials lacks %s", want)
		}
	}
}

// A version has its section in the changelog, or is none.
func TestReleaseRefuses(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]string{"": "make release VERSION=", "v1.2.3": "is none", "99.0.0": "CHANGELOG.md has no section [99.0.0]"} {
		cmd := exec.Command(filepath.Join(testenv.Root(t), "scripts/release.sh"), version)
		cmd.Env = append(os.Environ(), "NO_IMAGE=1", "DIST="+t.TempDir())
		if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), want) {
			t.Errorf("%q: %v: %s, want %q", version, err, out, want)
		}
	}
}
