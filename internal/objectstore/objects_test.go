package objectstore_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/objectstore"
	"github.com/parley-chat/parley/internal/testenv"
)

// send makes a request as a client does with a URL that it was given, and returns the status and the body.
func send(t *testing.T, method, url string, headers map[string]string, body string) (status int, header http.Header, got string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range headers {
		r.Header.Set(k, v)
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, res.Header, testenv.Body(t, res)
}

// A file is uploaded once, measured, read in parts, downloaded with the name and type that the server chose, and removed.
func TestAFileFromItsUploadToItsRemoval(t *testing.T) {
	t.Parallel()
	s, _ := open(t, nil)
	ctx, key, content := t.Context(), "attachments/one", "the content of a file"
	if _, err := s.Stat(ctx, key); !errors.Is(err, objectstore.ErrNotFound) {
		t.Errorf("before the upload: %v", err)
	}
	url, headers, err := s.PresignPut(ctx, key, "text/plain", int64(len(content)), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if status, _, body := send(t, http.MethodPut, url, headers, content+" and more"); status < 400 {
		t.Errorf("a larger file than was announced: %d %s", status, body)
	}
	if status, _, body := send(t, http.MethodPut, url, headers, content); status != http.StatusOK {
		t.Fatalf("the upload: %d %s", status, body)
	}
	if status, _, _ := send(t, http.MethodPut, url, headers, strings.ToUpper(content)); status != http.StatusPreconditionFailed {
		t.Errorf("a second upload: %d", status)
	}
	info, err := s.Stat(ctx, key)
	if err != nil || info.Size != int64(len(content)) || info.ETag == "" {
		t.Fatalf("measured as %+v, %v", info, err)
	}
	if b, err := s.Read(ctx, key, info.ETag, 4, 7); err != nil || !bytes.Equal(b, []byte("content")) {
		t.Errorf("a part is %q, %v", b, err)
	}
	if b, err := s.Read(ctx, key, info.ETag, 0, 1000); err != nil || string(b) != content {
		t.Errorf("more than there is: %q, %v", b, err)
	}
	if b, err := s.Read(ctx, key, "another", 0, 4); !errors.Is(err, objectstore.ErrRefused) {
		t.Errorf("a file that was replaced is read: %q, %v", b, err)
	}
	if b, err := s.Read(ctx, key, info.ETag, -1, 4); err == nil {
		t.Errorf("a negative offset: %q", b)
	}
	download, err := s.PresignGet(ctx, key, "application/octet-stream", `attachment; filename="a.txt"`, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	status, header, body := send(t, http.MethodGet, download, nil, "")
	if status != http.StatusOK || body != content || header.Get("Content-Type") != "application/octet-stream" ||
		header.Get("Content-Disposition") != `attachment; filename="a.txt"` || header.Get("Cache-Control") != "private, max-age=60" {
		t.Errorf("the download: %d %q %v", status, body, header)
	}
	for range 2 { // the second time there is none
		if err := s.Remove(ctx, key); err != nil {
			t.Errorf("the removal: %v", err)
		}
	}
	if _, err := s.Read(ctx, key, info.ETag, 0, 4); !errors.Is(err, objectstore.ErrNotFound) {
		t.Errorf("after the removal: %v", err)
	}
}

// Each operation without a storage fails as unavailable, within the caller's time, and works again once it is back.
func TestAnOutageOfTheStorageIsUnavailable(t *testing.T) {
	t.Parallel()
	s, storage := open(t, nil)
	operations := map[string]func(ctx context.Context) error{
		"stat":   func(ctx context.Context) error { _, err := s.Stat(ctx, "x"); return err },
		"read":   func(ctx context.Context) error { _, err := s.Read(ctx, "x", "etag", 0, 1); return err },
		"remove": func(ctx context.Context) error { return s.Remove(ctx, "x") },
		"check":  s.Check,
		"verify": func(ctx context.Context) error { _, err := s.Verify(ctx, nil); return err },
	}
	storage.Pause()
	for name, run := range operations {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		if err := run(ctx); !errors.Is(err, objectstore.ErrUnavailable) || errors.Is(err, objectstore.ErrRefused) {
			t.Errorf("%s while it hangs: %v", name, err)
		}
		cancel()
	}
	storage.Resume()
	storage.Stop()
	for name, run := range operations {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		if err := run(ctx); !errors.Is(err, objectstore.ErrUnavailable) {
			t.Errorf("%s without it: %v", name, err)
		}
		cancel()
	}
	storage.Start()
	testenv.Eventually(t, time.Minute, func() bool { return s.Check(t.Context()) == nil }, "it is back")
	if err := s.Remove(t.Context(), "x"); err != nil {
		t.Errorf("the removal of an object that does not exist: %v", err)
	}
}

// What a storage responds with decides what callers do: repeat later, give up, or treat the object as gone.
func TestWhatAResponseOfTheStorageMeans(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		status int
		code   string
		want   error
	}{
		{"too many requests", http.StatusTooManyRequests, "SlowDown", objectstore.ErrUnavailable},
		{"an error of the server", http.StatusNotImplemented, "NotImplemented", objectstore.ErrUnavailable},
		{"the clock of this machine", http.StatusForbidden, "RequestTimeTooSkewed", objectstore.ErrUnavailable},
		{"no permission", http.StatusForbidden, "AccessDenied", objectstore.ErrRefused},
		{"no such bucket", http.StatusNotFound, "NoSuchBucket", objectstore.ErrRefused},
		{"no such object", http.StatusNotFound, "NoSuchKey", objectstore.ErrNotFound},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, `<?xml version="1.0"?><Error><Code>`+c.code+`</Code><Message>no</Message><Key>attachments/x</Key></Error>`)
			}))
			defer server.Close()
			s, err := objectstore.New(objectstore.Config{Endpoint: server.URL, Region: "us-east-1", Bucket: "parley", AccessKey: "a", SecretKey: "b", PathStyle: true})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second) // the client repeats what may succeed later
			defer cancel()
			_, err = s.Read(ctx, "attachments/x", "etag", 0, 1)
			for _, kind := range []error{objectstore.ErrUnavailable, objectstore.ErrRefused, objectstore.ErrNotFound} {
				if errors.Is(err, kind) != (kind == c.want) { //nolint:errorlint // sentinels
					t.Errorf("got %v, want %v", err, c.want)
				}
			}
		})
	}
}

// An endpoint that can't be one is refused at the start, not at the first upload.
func TestAnEndpointThatIsNoneIsRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []objectstore.Config{
		{Endpoint: "http://a b", Bucket: "parley"}, {Endpoint: "storage", Bucket: "parley"},
		{Endpoint: "http://127.0.0.1:1", PublicEndpoint: "http://a b", Bucket: "parley"},
	} {
		if _, err := objectstore.New(c); err == nil {
			t.Errorf("%+v is accepted", c)
		}
	}
}
