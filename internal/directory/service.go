package directory

import "github.com/parley-chat/parley/internal/postgres"

// Service is what a product's back end can do with its users. Its methods may be called by any goroutine.
type Service struct {
	*Resolver
	db    *postgres.DB
	watch *Watch
}

// NewService makes the service.
func NewService(db *postgres.DB, w *Watch) *Service {
	return &Service{Resolver: NewResolver(db, w), db: db, watch: w}
}
