// Package directory is the domain of the product's own users as its back end keeps them: created and changed in bulk, listed, banned,
// deactivated. What users do for themselves is the domain of package user.
package directory

import "errors"

// Errors of the directory.
var (
	// ErrNotFound is returned for a user who is unknown or deleted.
	ErrNotFound = errors.New("user not found")
)
