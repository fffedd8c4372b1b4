// Package attachment is the domain of files that messages have. Files never pass through a pod: clients exchange them with object storage,
// by URLs that are signed here. A pod reads only a file's first bytes, to check its type.
//
//	Create ──► pending ── Complete: the object is as announced ──► ready ── sent, then downloaded by Links
//	              │  │                                              │
//	              │  └─ it is something else ──► rejected           │ message or conversation deleted, or not sent within unsentTTL
//	              └─ not completed in time ────► removed ◄──────────┘
//
// The Sweeper removes the objects and then the rows of rejected and removed files.
package attachment

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/invalid"
	"github.com/parley-chat/parley/internal/timestamp"
)

// Errors of requests, in addition to *invalid.Faults.
var (
	// ErrNotConfigured is returned if no object storage is configured.
	ErrNotConfigured = errors.New("this server has no storage for files")
	// ErrNotFound is also returned for a file that the user may not see.
	ErrNotFound = errors.New("attachment not found")
	// ErrTooLarge is returned for a size above the configured maximum.
	ErrTooLarge = errors.New("the file is larger than this server accepts")
	// ErrTypeNotAllowed is returned for a content type that the settings don't allow, or that cannot be checked.
	ErrTypeNotAllowed = errors.New("files of this type are not accepted")
	// ErrTooManyUploads is returned to a user who has too many unfinished uploads.
	ErrTooManyUploads = errors.New("too many uploads are unfinished")
	// ErrNotUploaded is returned if an upload is completed before its object exists.
	ErrNotUploaded = errors.New("the file was not uploaded yet")
	// ErrMismatch is returned if the object does not match the announcement. The object is removed.
	ErrMismatch = errors.New("the uploaded file is not what was announced, and was removed")
	// ErrUnavailable is returned if object storage is unavailable.
	ErrUnavailable = errors.New("the storage for files is unavailable")
)

// Bounds of uploads and downloads.
const (
	maxFilename = 255
	maxType     = 127
	// maxPending is the largest number of a user's pending uploads whose URLs are still valid.
	maxPending = 20
	// maxLinks is the largest number of files in one request for links.
	maxLinks = 100
	// uploadTTL is how long the URL of an upload is valid.
	uploadTTL = 15 * time.Minute
	// linkTTL is how long the URL of a download is valid.
	linkTTL = 10 * time.Minute
)

// Upload announces a file.
type Upload struct {
	Filename    string `json:"filename"`
	ContentType string `json:"contentType"`
	// Size is in bytes.
	Size int64 `json:"size"`
}

// Check normalises the upload and notes its faults.
func (u *Upload) Check(f *invalid.Faults) {
	invalid.Text{Min: 1, Max: maxFilename, Trim: true}.Check(f, "filename", &u.Filename)
	if name := strings.Trim(u.Filename, ". "); name == "" && u.Filename != "" {
		f.Add("filename", "must not be only dots")
	}
	t, ok := parseType(u.ContentType)
	if !ok {
		f.Add("contentType", "must be a media type such as image/png, of %d characters at most", maxType)
	}
	u.ContentType = t
	if u.Size < 1 {
		f.Add("size", "must be the file's size in bytes, 1 or more")
	}
}

// Ticket describes the request that uploads a file: its method, URL and headers. The body is the file.
type Ticket struct {
	ID        string            `json:"id"`
	URL       string            `json:"url"`
	Method    string            `json:"method"`
	Headers   map[string]string `json:"headers"`
	ExpiresAt timestamp.Time    `json:"expiresAt"`
}

// Completed is a file that was checked and may be sent.
type Completed struct {
	ID          string `json:"id"`
	State       string `json:"state"`
	ContentType string `json:"contentType"`
	Size        int64  `json:"size"`
	// Width and Height are a picture's size in pixels, 0 if unknown.
	Width  int `json:"width,omitempty"`
	Height int `json:"height,omitempty"`
}

// Wanted has the ids of the files for which links are requested.
type Wanted struct {
	IDs []string `json:"ids"`
}

// Check notes the faults of the list.
func (w *Wanted) Check(f *invalid.Faults) {
	if len(w.IDs) < 1 || len(w.IDs) > maxLinks {
		f.Add("ids", "must have 1 to %d ids", maxLinks)
		return
	}
	if !slices.ContainsFunc(w.IDs, func(s string) bool { return !id.Valid(s) }) {
		return
	}
	f.Add("ids", "must hold ids of attachments")
}

// Link is a URL from which a file can be downloaded for a limited time.
type Link struct {
	ID        string         `json:"id"`
	URL       string         `json:"url"`
	ExpiresAt timestamp.Time `json:"expiresAt"`
}
