// Package web holds the page that the api can serve at /: its built files, which web/build.mjs makes from web/.
package web

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"mime"
	"path"
)

//go:embed all:dist
var built embed.FS

// Index is the name of the page itself, Worker that of its service worker. All other files have a hash in their names and never change
// under it.
const (
	Index  = "index.html"
	Worker = "push-worker.js"
)

// File is one file of the page, ready to be sent. It is immutable and shared.
type File struct {
	// Body are the bytes, Gzip the same compressed.
	Body, Gzip []byte
	// Media is the Content-Type.
	Media string
	// ETag is quoted, as the header has it.
	ETag string
}

// Options are the properties of the server that the page needs.
type Options struct {
	// Uploads is whether files can be attached to messages.
	Uploads bool
}

var errNoIndex = errors.New("the page has no " + Index)

// uploadsOff is the page's built-in setting for attachments; a server with storage replaces it.
const uploadsOff, uploadsOn = `data-uploads="off"`, `data-uploads="on"`

// Files returns the page's files by name.
func Files(o Options) (map[string]*File, error) {
	entries, err := fs.ReadDir(built, "dist")
	if err != nil {
		return nil, fmt.Errorf("read the page: %w", err)
	}
	files := map[string]*File{}
	for _, e := range entries {
		body, err := built.ReadFile("dist/" + e.Name())
		if err != nil {
			return nil, fmt.Errorf("read the page: %w", err)
		}
		if e.Name() == Index && o.Uploads {
			body = bytes.Replace(body, []byte(uploadsOff), []byte(uploadsOn), 1)
		}
		if files[e.Name()], err = newFile(e.Name(), body); err != nil {
			return nil, err
		}
	}
	if files[Index] == nil {
		return nil, errNoIndex
	}
	return files, nil
}

func newFile(name string, body []byte) (*File, error) {
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err == nil {
		_, err = z.Write(body)
	}
	if err == nil {
		err = z.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("compress %s: %w", name, err)
	}
	sum := sha256.Sum256(body)
	return &File{Body: body, Gzip: b.Bytes(), Media: media(name), ETag: `"` + hex.EncodeToString(sum[:8]) + `"`}, nil
}

// media is the Content-Type of a file. It does not use the machine's table, in which .js may have any type.
func media(name string) string {
	switch path.Ext(name) {
	case ".html":
		return "text/html; charset=utf-8"
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	}
	return mime.TypeByExtension(path.Ext(name))
}
