package principal

import (
	"errors"
	"time"
)

// Errors of users who may not use Parley, with any kind of token. Both are 403.
var (
	ErrBanned      = errors.New("this user is banned")
	ErrDeactivated = errors.New("this user is deactivated")
)

// Standing is whether a user may use Parley. The zero value is a user in good standing.
type Standing struct {
	// Deleted is an account that its owner deleted.
	Deleted     bool
	Deactivated bool
	Banned      bool
	// Until is when a ban ends, zero for one that lasts until it is lifted.
	Until time.Time
	// ChangedAt orders the standings of one user that different readers saw; zero if it never changed.
	ChangedAt time.Time
}

// Err is nil for a user in good standing at that time, else ErrUnauthorized, ErrDeactivated or a *BannedError.
func (s Standing) Err(now time.Time) error {
	switch {
	case s.Deleted:
		return ErrUnauthorized
	case s.Deactivated:
		return ErrDeactivated
	case s.Banned && (s.Until.IsZero() || now.Before(s.Until)):
		return &BannedError{Until: s.Until}
	}
	return nil
}

// BannedError is ErrBanned with the end of the ban.
type BannedError struct {
	// Until is zero for a ban that lasts until it is lifted.
	Until time.Time
}

func (e *BannedError) Error() string {
	if e.Until.IsZero() {
		return ErrBanned.Error()
	}
	return ErrBanned.Error() + " until " + e.Until.UTC().Format(time.RFC3339)
}

// Is makes every BannedError an ErrBanned.
func (*BannedError) Is(target error) bool { return target == ErrBanned }
