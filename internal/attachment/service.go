package attachment

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/objectstore"
	"github.com/parley-chat/parley/internal/timestamp"
)

// Config are the rules of uploads.
type Config struct {
	// MaxSize is the largest file, in bytes.
	MaxSize int64
	// Types are the accepted types, Denied exceptions from them. Each is like "image/png", "image/*" or "*".
	Types, Denied []string
}

// Service handles requests about files. Safe for concurrent use.
type Service struct {
	config  Config
	store   *store
	objects *objectstore.Store
	metrics *Metrics
	log     *slog.Logger
}

// NewService makes the service. objects is nil if no storage is configured: Create, Complete, Links and Link then return ErrNotConfigured.
func NewService(c Config, db *sql.DB, objects *objectstore.Store, m *Metrics, log *slog.Logger) *Service {
	return &Service{config: c, store: &store{db}, objects: objects, metrics: m, log: log}
}

// Configured reports whether storage for files is configured.
func (s *Service) Configured() bool { return s.objects != nil }

// keyPrefix is the prefix of all objects' keys in the bucket.
const keyPrefix = "attachments/"

func key(id string) string { return keyPrefix + id }

// Create stores a pending upload and signs its URL. It may return ErrTooLarge, ErrTypeNotAllowed, ErrTooManyUploads or ErrUnavailable.
func (s *Service) Create(ctx context.Context, ownerID string, u *Upload) (Ticket, error) {
	switch {
	case s.objects == nil:
		return Ticket{}, ErrNotConfigured
	case u.Size > s.config.MaxSize:
		return Ticket{}, ErrTooLarge
	case !matches(s.config.Types, u.ContentType) || matches(s.config.Denied, u.ContentType) || !checkable(u.ContentType):
		return Ticket{}, ErrTypeNotAllowed
	}
	t := Ticket{ID: id.New(), Method: "PUT", ExpiresAt: timestamp.Time{Time: time.Now().Add(uploadTTL)}}
	var err error
	if t.URL, t.Headers, err = s.objects.PresignPut(ctx, key(t.ID), u.ContentType, u.Size, uploadTTL); err != nil {
		return Ticket{}, unavailable(err)
	}
	if err := s.store.create(ctx, t.ID, ownerID, u, uploadTTL); err != nil {
		return Ticket{}, err
	}
	s.metrics.count(outcomeCreated)
	return t, nil
}

// Complete checks the uploaded object of a pending upload, and returns the file. It may be repeated, with the same result. It returns
// ErrNotUploaded if there is no object yet, and ErrMismatch if the object is not the announced one; the object is then removed.
func (s *Service) Complete(ctx context.Context, id, ownerID string) (Completed, error) {
	if s.objects == nil {
		return Completed{}, ErrNotConfigured
	}
	f, err := s.store.own(ctx, id, ownerID)
	if err != nil {
		return Completed{}, err
	}
	if f.state == statePending {
		if err := s.check(ctx, &f, ownerID); err != nil {
			return Completed{}, err
		}
	}
	switch f.state {
	case stateReady:
	case stateRejected:
		return Completed{}, ErrMismatch
	default: // the sweep has given the file up
		return Completed{}, ErrNotFound
	}
	return Completed{ID: f.id, State: f.state, ContentType: f.contentType, Size: f.size, Width: f.width, Height: f.height}, nil
}

// check inspects the object of a pending upload, and makes the upload ready or rejected. If another pod does the same at the same time, the
// first result counts, and both pods return it in f.
func (s *Service) check(ctx context.Context, f *file, ownerID string) error {
	c, ok, err := s.inspect(ctx, f)
	if errors.Is(err, ErrNotUploaded) { // unless another pod has rejected and removed the object meanwhile
		if *f, err = s.store.own(ctx, f.id, ownerID); err == nil && f.state == statePending {
			err = ErrNotUploaded
		}
		return err
	}
	if err != nil {
		return err
	}
	state, outcome := stateReady, outcomeReady
	if !ok {
		state, outcome, c = stateRejected, outcomeMismatch, checked{}
	}
	first, err := s.store.finish(ctx, f.id, state, c)
	if err != nil {
		return err
	}
	if !first {
		*f, err = s.store.own(ctx, f.id, ownerID)
		return err
	}
	s.metrics.count(outcome)
	f.state = state
	if !ok {
		// If this fails, the sweep removes the object, because the row is rejected.
		if err := s.objects.Remove(ctx, key(f.id)); err != nil {
			s.log.WarnContext(ctx, "a file that is not what was announced stays for the sweep", "attachment", f.id, "error", err)
		}
		return nil
	}
	f.contentType, f.width, f.height = c.contentType, c.width, c.height
	return nil
}

// inspect compares the object's size and its first sniffLen bytes with the announcement.
func (s *Service) inspect(ctx context.Context, f *file) (c checked, ok bool, err error) {
	info, err := s.objects.Stat(ctx, key(f.id))
	if err != nil {
		return checked{}, false, absent(err)
	}
	if info.Size != f.size {
		return checked{}, false, nil
	}
	read := func(offset int64, n int) ([]byte, error) {
		if offset >= info.Size {
			return nil, nil
		}
		return s.objects.Read(ctx, key(f.id), info.ETag, offset, n)
	}
	head, err := read(0, sniffLen)
	if err == nil {
		c, ok, err = inspect(f.contentType, s.config.Denied, head, info.Size, read)
	}
	if err != nil {
		return checked{}, false, absent(err)
	}
	return c, ok, nil
}

// absent returns the error of a check that could not read the object.
func absent(err error) error {
	if errors.Is(err, objectstore.ErrNotFound) {
		return ErrNotUploaded
	}
	return unavailable(err)
}

// Links signs downloads of the files that the user may see, in the order of the request. Other files are left out.
func (s *Service) Links(ctx context.Context, userID string, w *Wanted) ([]Link, error) {
	if s.objects == nil {
		return nil, ErrNotConfigured
	}
	found, err := s.store.visible(ctx, w.IDs, userID)
	if err != nil {
		return nil, err
	}
	out := make([]Link, 0, len(found))
	for _, id := range w.IDs {
		f, ok := found[id]
		if !ok {
			continue
		}
		delete(found, id) // a repeated id gets one link
		l, err := s.link(ctx, &f)
		if err != nil {
			return nil, err
		}
		out = append(out, l)
	}
	return out, nil
}

// Link signs the download of one file. It returns ErrNotFound for a file that the user may not see.
func (s *Service) Link(ctx context.Context, userID, id string) (Link, error) {
	links, err := s.Links(ctx, userID, &Wanted{IDs: []string{id}})
	if err != nil {
		return Link{}, err
	}
	if len(links) == 0 {
		return Link{}, ErrNotFound
	}
	return links[0], nil
}

func (s *Service) link(ctx context.Context, f *file) (Link, error) {
	l := Link{ID: f.id, ExpiresAt: timestamp.Time{Time: time.Now().Add(linkTTL)}}
	var err error
	if l.URL, err = s.objects.PresignGet(ctx, key(f.id), f.contentType, disposition(f.contentType, f.filename), linkTTL); err != nil {
		return Link{}, unavailable(err)
	}
	return l, nil
}

// Check reports whether the storage responds; nil if none is configured.
func (s *Service) Check(ctx context.Context) error {
	if s.objects == nil {
		return nil
	}
	return s.objects.Check(ctx)
}

// unavailable wraps a failure of the storage in ErrUnavailable, so that clients try again.
func unavailable(err error) error { return fmt.Errorf("%w: %w", ErrUnavailable, err) }
