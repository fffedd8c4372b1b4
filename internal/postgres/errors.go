package postgres

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// SQLSTATEs that Parley distinguishes.
const (
	codeUniqueViolation  = "23505"
	codeReadOnly         = "25006" // the server is a standby, or was set to read-only
	codeIdleTransaction  = "25P03"
	codeTransactionTime  = "25P04"
	codeNoStatement      = "26000" // a pooler switched to a server connection that never prepared the statement
	codeStatementExists  = "42P05" // or to one that already did
	codeUnsupported      = "0A000"
	codeLockNotAvailable = "55P03"
	codeObjectInUse      = "55006"
	codeSerialization    = "40001"
	codeDeadlock         = "40P01"
	codeAdminShutdown    = "57P01"
	codeCrashShutdown    = "57P02"
	codeCannotConnect    = "57P03"
	codeDatabaseDropped  = "57P04"
)

// stalePlan is the message of a 0A000 after a migration has changed a table. pgx recovers from it: the next execution plans again.
const stalePlan = "cached plan must not change result type"

// unavailableClasses are the classes of SQLSTATEs that don't depend on the statement: the same statement may succeed soon, on this or another
// server. The values name the causes.
var unavailableClasses = map[string]string{
	"08": "connections, and poolers that have no server",
	"28": "logins: our statements don't log in, but a pooler passes on the error of its own login",
	"3D": "databases that do not exist, in the same way",
	"40": "deadlocks, and conflicts with the recovery of a standby",
	"53": "a full disk, no memory, too many connections",
	"57": "a server that stops, starts or recovers; statement time-outs",
	"58": "errors of the server's operating system, such as I/O on a failing disk",
}

// unavailableCodes are single SQLSTATEs with the same meaning, of other classes.
var unavailableCodes = map[string]bool{
	codeReadOnly: true, codeIdleTransaction: true, codeTransactionTime: true, codeNoStatement: true, codeStatementExists: true,
	codeLockNotAvailable: true, codeObjectInUse: true,
}

// IsUnavailable reports whether err has a temporary cause, so that the same call may succeed later: the database can't be reached, refuses logins, is
// stopping or starting, is a standby, lacks a resource or took too long, or the call conflicted with others (ErrConflict). Clients get 503.
func IsUnavailable(err error) bool {
	// The caller of an API never causes a failed login. The cause is on our side or the server's: a password that was just changed, a
	// database that is being restored, too many connections.
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok || errors.Is(err, ErrConflict) {
		return true
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return unavailable(pg)
	}
	if _, ok := errors.AsType[net.Error](err); ok {
		return true
	}
	for _, broken := range []error{io.EOF, io.ErrUnexpectedEOF, driver.ErrBadConn, sql.ErrConnDone, context.DeadlineExceeded, net.ErrClosed} {
		if errors.Is(err, broken) {
			return true
		}
	}
	return pgconn.SafeToRetry(err)
}

func unavailable(pg *pgconn.PgError) bool {
	if len(pg.Code) < 2 {
		return false
	}
	_, class := unavailableClasses[pg.Code[:2]]
	return class || unavailableCodes[pg.Code] || pg.Code == codeUnsupported && strings.Contains(pg.Message, stalePlan)
}

// IsRefused reports whether the database refused a statement as a whole because of its rows, or because of a conflict with other statements. If the
// statement is split, some of the parts may succeed.
func IsRefused(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (!IsUnavailable(err) || strings.HasPrefix(pg.Code, "40"))
}

// IsLocked reports whether a row was locked for longer than lock_timeout.
func IsLocked(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pg.Code == codeLockNotAvailable
}

// IsUniqueViolation reports whether err is a violation of the named unique constraint or index.
func IsUniqueViolation(err error, constraint string) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pg.Code == codeUniqueViolation && pg.ConstraintName == constraint
}

// isFailover reports whether an error means that this server no longer accepts writes. Other connections that were opened before lead to the same
// server, and can't be used either.
func isFailover(pg *pgconn.PgError) bool {
	switch pg.Code {
	case codeReadOnly, codeAdminShutdown, codeCrashShutdown, codeCannotConnect, codeDatabaseDropped:
		return true
	}
	return false
}

// IsReadOnly reports whether err means that the server accepts no writes, or that no server was found that accepts them.
func IsReadOnly(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pg.Code == codeReadOnly || errors.Is(err, pgconn.ErrReadOnlyConnection)
}
