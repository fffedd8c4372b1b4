// Package objectstore accesses the bucket with the files, on S3 or any compatible server. It signs URLs with which clients upload and
// download objects, and it reads, checks and removes objects.
package objectstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

var (
	// ErrNotFound is returned for an object that does not exist.
	ErrNotFound = errors.New("no such object")
	// ErrUnavailable is returned if the storage does not respond, or can't serve the request now.
	ErrUnavailable = errors.New("object storage is unavailable")
	// ErrRefused is returned if the storage refuses the credentials, or has no such bucket.
	ErrRefused = errors.New("object storage refused the request")
)

// Bounds of one call. The deadline of a request (httpapi) is longer than one attempt here.
const (
	dialTimeout   = 2 * time.Second
	headerTimeout = 4 * time.Second
	idleTimeout   = 90 * time.Second
	idleConns     = 16
	// tries is how often the client sends a request whose failure may be temporary.
	tries = 2
)

// Config has the address of the bucket and the credentials.
type Config struct {
	// Endpoint is the storage's URL for pods, PublicEndpoint the one for clients; "" if it is the same.
	Endpoint, PublicEndpoint string
	Region, Bucket           string
	// AccessKey and SecretKey are the credentials. If they are "", the pod's role is used: web identity, container or instance.
	AccessKey, SecretKey string
	// PathStyle puts the bucket into the path instead of the host name.
	PathStyle bool
}

// Store is the bucket. Safe for concurrent use.
type Store struct {
	inner  *minio.Client
	public *minio.Client
	http   *http.Transport
	bucket string
	region string
}

// New prepares the client. It does not connect.
func New(c Config) (*Store, error) {
	s := &Store{bucket: c.Bucket, region: c.Region, http: &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: dialTimeout, KeepAlive: idleTimeout}).DialContext,
		TLSHandshakeTimeout:   dialTimeout,
		ResponseHeaderTimeout: headerTimeout,
		IdleConnTimeout:       idleTimeout,
		MaxIdleConnsPerHost:   idleConns,
		DisableCompression:    true, // so that sizes are those of the stored objects
	}}
	creds := credentials.NewStaticV4(c.AccessKey, c.SecretKey, "")
	if c.AccessKey == "" {
		creds = credentials.NewIAM("")
	}
	var err error
	if s.inner, err = s.client(c, c.Endpoint, creds); err != nil {
		return nil, err
	}
	if c.PublicEndpoint == "" {
		c.PublicEndpoint = c.Endpoint
	}
	if s.public, err = s.client(c, c.PublicEndpoint, creds); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Store) client(c Config, endpoint string, creds *credentials.Credentials) (*minio.Client, error) {
	u, err := url.Parse(endpoint)
	if err != nil {
		return nil, fmt.Errorf("open object storage: %w", err)
	}
	lookup := minio.BucketLookupDNS
	if c.PathStyle {
		lookup = minio.BucketLookupPath
	}
	client, err := minio.New(u.Host, &minio.Options{
		Creds: creds, Secure: u.Scheme == "https", Region: c.Region, BucketLookup: lookup, Transport: s.http, MaxRetries: tries,
	})
	if err != nil {
		return nil, fmt.Errorf("open object storage: %w", err)
	}
	client.SetAppInfo("parley", "")
	return client, nil
}

// Close drops the idle connections.
func (s *Store) Close() { s.http.CloseIdleConnections() }

// PresignPut signs a request that uploads an object, unless it exists already. The request must have exactly the returned headers, because
// they are part of the signature.
func (s *Store) PresignPut(ctx context.Context, key, contentType string, size int64, ttl time.Duration) (string, map[string]string, error) {
	headers := map[string]string{
		"Content-Type": contentType, "Content-Length": strconv.FormatInt(size, 10), "If-None-Match": "*",
	}
	signed := http.Header{}
	for k, v := range headers {
		signed.Set(k, v)
	}
	u, err := s.public.PresignHeader(ctx, http.MethodPut, s.bucket, key, ttl, nil, signed)
	if err != nil {
		return "", nil, classify("sign an upload", err)
	}
	return u.String(), headers, nil
}

// PresignGet signs a request that downloads an object. The storage responds with the given type and disposition.
func (s *Store) PresignGet(ctx context.Context, key, contentType, disposition string, ttl time.Duration) (string, error) {
	u, err := s.public.PresignedGetObject(ctx, s.bucket, key, ttl, url.Values{
		"response-content-type": {contentType}, "response-content-disposition": {disposition},
		"response-cache-control": {"private, max-age=" + strconv.Itoa(int(ttl.Seconds()))},
	})
	if err != nil {
		return "", classify("sign a download", err)
	}
	return u.String(), nil
}

// Info is an object's size in bytes, and the ETag of its content.
type Info struct {
	Size int64
	ETag string
}

// Stat returns the size of an object. It returns ErrNotFound if there is none. Servers that keep objects in a file system may respond without an
// ETag while they remove the object: that counts as none too.
func (s *Store) Stat(ctx context.Context, key string) (Info, error) {
	info, err := s.inner.StatObject(ctx, s.bucket, key, minio.StatObjectOptions{})
	if err != nil {
		return Info{}, classify("measure an object", err)
	}
	if info.ETag == "" {
		return Info{}, fmt.Errorf("measure an object without an ETag: %w", ErrNotFound)
	}
	return Info{Size: info.Size, ETag: info.ETag}, nil
}

// Read reads at most n bytes of an object, from an offset within it. It fails if the object's ETag is not etag any more.
func (s *Store) Read(ctx context.Context, key, etag string, offset int64, n int) ([]byte, error) {
	o := minio.GetObjectOptions{}
	if err := o.SetRange(offset, offset+int64(n)-1); err != nil {
		return nil, fmt.Errorf("read an object: %w", err)
	}
	if err := o.SetMatchETag(etag); err != nil {
		return nil, fmt.Errorf("read an object: %w", err)
	}
	body, _, _, err := minio.Core{Client: s.inner}.GetObject(ctx, s.bucket, key, o)
	if err != nil {
		return nil, classify("read an object", err)
	}
	defer body.Close()
	b, err := io.ReadAll(io.LimitReader(body, int64(n)))
	if err != nil {
		return nil, classify("read an object", err)
	}
	return b, nil
}

// Remove removes an object. It returns nil if there is none.
func (s *Store) Remove(ctx context.Context, key string) error {
	err := classify("remove an object", s.inner.RemoveObject(ctx, s.bucket, key, minio.RemoveObjectOptions{}))
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// Check reports whether the bucket exists and the storage responds.
func (s *Store) Check(ctx context.Context) error {
	found, err := s.inner.BucketExists(ctx, s.bucket)
	if err != nil {
		return classify("look for the bucket", err)
	}
	if !found {
		return fmt.Errorf("%w: there is no bucket %s", ErrRefused, s.bucket)
	}
	return nil
}

// classify wraps an error of the client with its sentinel.
func classify(operation string, err error) error {
	if err == nil {
		return nil
	}
	r, answered := errors.AsType[minio.ErrorResponse](err)
	kind := ErrUnavailable
	switch {
	case !answered || r.StatusCode == 0:
	case r.Code == "NoSuchKey", r.Code == "NotFound" && r.Key != "":
		kind = ErrNotFound
	case r.StatusCode >= http.StatusInternalServerError, r.StatusCode == http.StatusTooManyRequests, r.StatusCode == http.StatusRequestTimeout:
	case r.Code == "RequestTimeTooSkewed":
	default:
		kind = ErrRefused
	}
	return fmt.Errorf("%s: %w: %w", operation, kind, err)
}
