package objectstore_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/objectstore"
	"github.com/parley-chat/parley/internal/testenv"
)

func open(t *testing.T, change func(c *objectstore.Config)) (*objectstore.Store, *testenv.ObjectStorage) {
	t.Helper()
	storage := testenv.Storage(t)
	c := objectstore.Config{
		Endpoint: storage.URL(), Region: testenv.StorageRegion, Bucket: testenv.StorageBucket,
		AccessKey: testenv.StorageAccessKey, SecretKey: testenv.StorageSecretKey, PathStyle: true,
	}
	if change != nil {
		change(&c)
	}
	s, err := objectstore.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s, storage
}

// URLs are signed for the endpoint that clients reach, in either style.
func TestURLsAreOfThePublicEndpoint(t *testing.T) {
	t.Parallel()
	for style, want := range map[bool]string{true: "https://files.example.com/parley/attachments/x?", false: "https://parley.files.example.com/attachments/x?"} {
		s, err := objectstore.New(objectstore.Config{
			Endpoint: "http://127.0.0.1:1", PublicEndpoint: "https://files.example.com", Region: "eu-central-1", Bucket: "parley",
			AccessKey: "a", SecretKey: "b", PathStyle: style,
		})
		if err != nil {
			t.Fatal(err)
		}
		put, headers, err := s.PresignPut(t.Context(), "attachments/x", "image/png", 5, time.Minute)
		if err != nil || !strings.HasPrefix(put, want) || !strings.Contains(put, "X-Amz-SignedHeaders=content-length%3Bcontent-type%3Bhost%3Bif-none-match") ||
			headers["Content-Length"] != "5" || headers["If-None-Match"] != "*" || headers["Content-Type"] != "image/png" {
			t.Errorf("an upload goes to %s with %v, %v", put, headers, err)
		}
		get, err := s.PresignGet(t.Context(), "attachments/x", "image/png", "inline", time.Minute)
		if err != nil || !strings.HasPrefix(get, want) {
			t.Errorf("a download comes from %s, %v", get, err)
		}
	}
}

func TestABucketIsVerified(t *testing.T) {
	t.Parallel()
	origins := []string{"https://chat.example.com"}
	s, storage := open(t, nil)
	if faults, err := s.Verify(t.Context(), origins); err != nil || len(faults) > 0 {
		t.Errorf("a good bucket: %q, %v", faults, err)
	}
	if left := storage.Objects(); len(left) > 0 {
		t.Errorf("%v are left", left)
	}
	storage.NoCORS = true
	storage.Stop()
	storage.Start()
	if faults, err := s.Verify(t.Context(), origins); err != nil || len(faults) != 1 || !strings.Contains(faults[0], origins[0]) {
		t.Errorf("without CORS: %q, %v", faults, err)
	}
	storage.Public(t)
	if faults, err := s.Verify(t.Context(), nil); err != nil || len(faults) != 1 || !strings.Contains(faults[0], "public") {
		t.Errorf("a public bucket: %q, %v", faults, err)
	}
}

func TestRefusedIsNotUnavailable(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(c *objectstore.Config){
		"a wrong key":    func(c *objectstore.Config) { c.SecretKey = "another secret" },
		"another bucket": func(c *objectstore.Config) { c.Bucket = "nowhere" },
	} {
		s, _ := open(t, change)
		if err := s.Check(t.Context()); !errors.Is(err, objectstore.ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := s.Verify(t.Context(), nil); !errors.Is(err, objectstore.ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
	}
	s, storage := open(t, nil)
	storage.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := s.Check(ctx); !errors.Is(err, objectstore.ErrUnavailable) {
		t.Errorf("away: %v", err)
	}
}

// A server over a file system has lost an object's ETag for a moment before the object itself is gone.
func TestAnObjectWithoutAnETagIsBeingRemoved(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Last-Modified", time.Unix(0, 0).UTC().Format(http.TimeFormat))
		w.Header().Set("Content-Length", "3")
	}))
	t.Cleanup(server.Close)
	s, err := objectstore.New(objectstore.Config{
		Endpoint: server.URL, Region: "us-east-1", Bucket: "parley", AccessKey: "a", SecretKey: "b", PathStyle: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	if info, err := s.Stat(t.Context(), "attachments/x"); !errors.Is(err, objectstore.ErrNotFound) {
		t.Errorf("got %+v, %v", info, err)
	}
}
