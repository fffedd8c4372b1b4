package testenv

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// The bucket and the credentials of a test's storage.
const (
	StorageBucket    = "parley"
	StorageRegion    = "us-east-1"
	StorageAccessKey = "parley"
	StorageSecretKey = "a secret of tests"
)

// gateways has the path of the S3 gateway's program by the checkout. It is built once a machine.
var gateways sync.Map

func gateway(root string) (string, error) {
	g, _ := gateways.LoadOrStore(root, sync.OnceValues(func() (string, error) { return buildGateway(root) }))
	return g.(func() (string, error))()
}

func buildGateway(root string) (string, error) {
	cmd := exec.Command(filepath.Join(root, "scripts", "storage.sh"))
	var problems strings.Builder
	cmd.Stderr = &problems
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, problems.String())
	}
	return strings.TrimSpace(string(out)), nil
}

// ObjectStorage is an S3 server of one test's own, with one bucket that is a folder.
type ObjectStorage struct {
	t     testing.TB
	port  int
	dir   string
	child *child
	// NoCORS has the next start allow no origin.
	NoCORS bool
}

// Storage starts an S3 server, whose bucket any origin may use.
func Storage(t testing.TB) *ObjectStorage {
	t.Helper()
	s := &ObjectStorage{t: t, port: FreePort(t), dir: tempDir(t, "storage")}
	for _, dir := range []string{filepath.Join("data", StorageBucket), "meta", "iam"} {
		if err := os.MkdirAll(filepath.Join(s.dir, dir), 0o750); err != nil {
			t.Fatal(err)
		}
	}
	s.Start()
	t.Cleanup(s.Stop)
	return s
}

// URL is its endpoint.
func (s *ObjectStorage) URL() string { return fmt.Sprintf("http://127.0.0.1:%d", s.port) }

// Settings are Parley's settings that reach it.
func (s *ObjectStorage) Settings() []string {
	return []string{
		"PARLEY_S3_ENDPOINT=" + s.URL(), "PARLEY_S3_BUCKET=" + StorageBucket, "PARLEY_S3_PATH_STYLE=true",
		"PARLEY_S3_ACCESS_KEY=" + StorageAccessKey, "PARLEY_S3_SECRET_KEY=" + StorageSecretKey,
	}
}

// Start starts it again at the same address, with its objects.
func (s *ObjectStorage) Start() {
	s.t.Helper()
	program, err := gateway(Root(s.t))
	if err != nil {
		s.t.Fatalf("build the storage: %v", err)
	}
	cmd := exec.Command(program, "--port", fmt.Sprintf("127.0.0.1:%d", s.port), "--health", "/health", "--quiet",
		"--iam-dir", filepath.Join(s.dir, "iam"), "--iam-cache-disable",
		"posix", "--sidecar", filepath.Join(s.dir, "meta"), filepath.Join(s.dir, "data"))
	cmd.Env = []string{"ROOT_ACCESS_KEY=" + StorageAccessKey, "ROOT_SECRET_KEY=" + StorageSecretKey}
	if !s.NoCORS {
		cmd.Env = append(cmd.Env, "VGW_CORS_ALLOW_ORIGIN=*")
	}
	c, err := startChild(cmd, s.dir, syscall.SIGKILL)
	if err != nil {
		s.t.Fatal(err)
	}
	s.child = c
	Eventually(s.t, time.Minute, func() bool {
		if c.gone() {
			s.t.Fatalf("the storage ended: %s", c.output())
		}
		r, err := http.Get(s.URL() + "/health")
		if err != nil {
			return false
		}
		defer r.Body.Close()
		return r.StatusCode == http.StatusOK
	}, "the storage serves")
	http.DefaultClient.CloseIdleConnections()
}

// Accept has it accept these key pairs, secrets by access key, in addition to its own, and no others from now on.
func (s *ObjectStorage) Accept(pairs map[string]string) {
	s.t.Helper()
	type account struct {
		Access string `json:"access"`
		Secret string `json:"secret"`
		Role   string `json:"role"`
	}
	accounts := map[string]account{}
	for access, secret := range pairs {
		accounts[access] = account{access, secret, "admin"}
	}
	b, err := json.Marshal(map[string]any{"accessAccounts": accounts})
	if err != nil {
		s.t.Fatal(err)
	}
	written := filepath.Join(s.dir, "users.json")
	if err := os.WriteFile(written, b, 0o600); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Rename(written, filepath.Join(s.dir, "iam", "users.json")); err != nil {
		s.t.Fatal(err)
	}
}

// Stop kills it. Its objects are kept.
func (s *ObjectStorage) Stop() { s.child.end(syscall.SIGKILL) }

// Pause makes it hang.
func (s *ObjectStorage) Pause() { s.child.pause() }

// Resume ends the hang.
func (s *ObjectStorage) Resume() { s.child.resume() }

// Public lets everybody read the bucket's objects.
func (s *ObjectStorage) Public(t testing.TB) {
	t.Helper()
	c, err := minio.New(fmt.Sprintf("127.0.0.1:%d", s.port), &minio.Options{
		Creds: credentials.NewStaticV4(StorageAccessKey, StorageSecretKey, ""), Region: StorageRegion, BucketLookup: minio.BucketLookupPath,
	})
	if err != nil {
		t.Fatal(err)
	}
	policy := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::` + StorageBucket + `/*"}]}`
	if err := c.SetBucketPolicy(t.Context(), StorageBucket, policy); err != nil {
		t.Fatal(err)
	}
}

// Objects returns the keys of its objects, in order.
func (s *ObjectStorage) Objects() []string {
	s.t.Helper()
	bucket := filepath.Join(s.dir, "data", StorageBucket)
	var out []string
	err := filepath.WalkDir(bucket, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		key, err := filepath.Rel(bucket, path)
		if err == nil && !strings.HasPrefix(key, ".") {
			out = append(out, filepath.ToSlash(key))
		}
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	slices.Sort(out)
	return out
}
