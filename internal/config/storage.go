package config

import (
	"math"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// storageSettings are the names of the settings for storage and uploads.
var storageSettings = []string{
	"S3_ENDPOINT", "S3_PUBLIC_ENDPOINT", "S3_REGION", "S3_BUCKET", "S3_ACCESS_KEY", "S3_SECRET_KEY", "S3_PATH_STYLE",
	"UPLOAD_MAX_SIZE", "UPLOAD_TYPES", "UPLOAD_DENY_TYPES", "UPLOAD_UNSENT_TTL", "UPLOAD_SWEEP_INTERVAL",
}

// Storage is how to reach the bucket for files. The zero value is none.
type Storage struct {
	// Endpoint is the URL that pods reach, PublicEndpoint the one that clients reach.
	Endpoint, PublicEndpoint string
	Region, Bucket           string
	// AccessKey and SecretKey are empty for the pod's role.
	AccessKey, SecretKey string
	PathStyle            bool
}

// Configured reports whether there is storage.
func (s Storage) Configured() bool { return s.Endpoint != "" }

// Uploads are the rules of uploads.
type Uploads struct {
	// MaxSize is in bytes.
	MaxSize int64
	// Types are patterns of media types that are accepted. DenyTypes are refused all the same: nil is the default, empty is none.
	Types, DenyTypes []string
}

// Sweep is when files that nobody needs are removed.
type Sweep struct {
	// UnsentTTL is how long an upload may stay unsent, Interval the time between two sweeps.
	UnsentTTL, Interval time.Duration
}

func (r *reader) storage() Storage {
	s := Storage{
		Endpoint: r.endpoint("S3_ENDPOINT"), PublicEndpoint: r.endpoint("S3_PUBLIC_ENDPOINT"),
		Region: r.text("S3_REGION", "us-east-1"), Bucket: r.text("S3_BUCKET", ""),
		AccessKey: r.text("S3_ACCESS_KEY", ""), SecretKey: r.text("S3_SECRET_KEY", ""),
		PathStyle: r.choice("S3_PATH_STYLE", "false", "true", "false") == "true",
	}
	if s.Endpoint == "" && s.Bucket+s.PublicEndpoint+s.AccessKey+s.SecretKey != "" {
		r.fault("S3_ENDPOINT", "is required with the other settings of the storage")
	}
	if s.Endpoint != "" && s.Bucket == "" {
		r.fault("S3_BUCKET", "is required with %sS3_ENDPOINT", prefix)
	}
	if (s.AccessKey == "") != (s.SecretKey == "") {
		r.fault("S3_ACCESS_KEY", "and %sS3_SECRET_KEY go together; without both the pod's role is used", prefix)
	}
	if s.PublicEndpoint == "" {
		s.PublicEndpoint = s.Endpoint
	}
	return s
}

// endpoint reads the URL of a server, without a path.
func (r *reader) endpoint(name string) string {
	s := strings.TrimSuffix(r.text(name, ""), "/")
	if s == "" {
		return ""
	}
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.Path != "" || u.RawQuery != "" || u.User != nil {
		r.fault(name, "must be a URL of a server such as https://s3.example.com, without a path")
		return ""
	}
	return s
}

func (r *reader) uploads() Uploads {
	u := Uploads{MaxSize: r.size("UPLOAD_MAX_SIZE", "25MiB"), Types: r.mediaTypes("UPLOAD_TYPES", "*"), DenyTypes: []string{}}
	if r.text("UPLOAD_DENY_TYPES", "") != "none" {
		u.DenyTypes = r.mediaTypes("UPLOAD_DENY_TYPES", "")
	}
	return u
}

func (r *reader) sweep() Sweep {
	s := Sweep{
		UnsentTTL: r.duration("UPLOAD_UNSENT_TTL", 24*time.Hour, time.Hour),
		Interval:  r.duration("UPLOAD_SWEEP_INTERVAL", 15*time.Minute, time.Second),
	}
	return s
}

// maxObject is the largest object that S3 accepts in one request.
const maxObject = 5 << 30

// size reads a number of bytes, with a unit or without.
func (r *reader) size(name, def string) int64 {
	s := r.text(name, def)
	digits := strings.TrimRight(s, "BKMGTkmgtib ")
	unit, known := map[string]float64{
		"": 1, "b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30,
	}[strings.ToLower(strings.TrimSpace(s[len(digits):]))]
	n, err := strconv.ParseFloat(digits, 64)
	bytes := math.Round(n * unit)
	if err != nil || !known || !(bytes >= 1 && bytes <= maxObject) {
		r.fault(name, "must be a size of at most 5GiB, such as %s", def)
		return 0
	}
	return int64(bytes)
}

// mediaTypes reads a list of media types, each as image/png, image/* or *.
func (r *reader) mediaTypes(name, def string) []string {
	var out []string
	for _, s := range strings.Split(r.text(name, def), ",") {
		s = strings.ToLower(strings.TrimSpace(s))
		kind, sub, ok := strings.Cut(s, "/")
		switch {
		case s == "":
		case s != "*" && (!ok || kind == "" || sub == "" || strings.ContainsAny(s, " ;")):
			r.fault(name, "must hold media types such as image/png, image/* or *, which %q is not", s)
		default:
			out = append(out, s)
		}
	}
	return out
}
