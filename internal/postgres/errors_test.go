package postgres_test

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/parley-chat/parley/internal/postgres"
)

// What a failover, a standby, a full disk, a changed password, too many connections and a migration bring is "unavailable";
// what is wrong with the statement itself is not.
func TestWhatAnErrorOfPostgresMeans(t *testing.T) {
	t.Parallel()
	state := func(code, message string) error {
		return fmt.Errorf("write: %w", &pgconn.PgError{Code: code, Message: message})
	}
	for name, c := range map[string]struct {
		err                  error
		unavailable, refused bool
	}{
		"nil": {nil, false, false},

		"08000 connection_exception":                      {state("08000", ""), true, false},
		"08006 connection_failure":                        {state("08006", ""), true, false},
		"08P01 a pooler without a server":                 {state("08P01", "pgbouncer cannot connect to server"), true, false},
		"25006 read_only_sql_transaction":                 {state("25006", ""), true, false},
		"25P03 idle_in_transaction_session_timeout":       {state("25P03", ""), true, false},
		"25P04 transaction_timeout":                       {state("25P04", ""), true, false},
		"26000 a pooler's other server connection":        {state("26000", ""), true, false},
		"42P05 the same, the other way round":             {state("42P05", ""), true, false},
		"40001 conflict with recovery on a standby":       {state("40001", ""), true, true},
		"40P01 deadlock_detected":                         {state("40P01", ""), true, true},
		"53100 disk_full":                                 {state("53100", ""), true, false},
		"53200 out_of_memory":                             {state("53200", ""), true, false},
		"53300 too_many_connections":                      {state("53300", ""), true, false},
		"53400 configuration_limit_exceeded":              {state("53400", ""), true, false},
		"55006 object_in_use":                             {state("55006", ""), true, false},
		"55P03 lock_not_available":                        {state("55P03", ""), true, false},
		"57014 query_canceled":                            {state("57014", ""), true, false},
		"57P01 admin_shutdown":                            {state("57P01", ""), true, false},
		"57P02 crash_shutdown":                            {state("57P02", ""), true, false},
		"57P03 cannot_connect_now":                        {state("57P03", ""), true, false},
		"57P04 database_dropped":                          {state("57P04", ""), true, false},
		"57P05 idle_session_timeout":                      {state("57P05", ""), true, false},
		"58030 io_error":                                  {state("58030", ""), true, false},
		"0A000 after a migration":                         {state("0A000", "cached plan must not change result type"), true, false},
		"0A000 anything else":                             {state("0A000", "not implemented"), false, true},
		"22P02 invalid_text_representation":               {state("22P02", ""), false, true},
		"23503 foreign_key_violation":                     {state("23503", ""), false, true},
		"23505 unique_violation":                          {state("23505", ""), false, true},
		"42501 insufficient_privilege":                    {state("42501", ""), false, true},
		"42703 undefined_column":                          {state("42703", ""), false, true},
		"P0001 raise_exception":                           {state("P0001", ""), false, true},
		"XX001 data_corrupted":                            {state("XX001", ""), false, true},
		"a login that was refused":                        {&pgconn.ConnectError{Config: &pgconn.Config{}}, true, false},
		"a broken connection":                             {fmt.Errorf("read: %w", io.ErrUnexpectedEOF), true, false},
		"a connection that the pool gave up":              {driver.ErrBadConn, true, false},
		"a statement that took too long":                  {fmt.Errorf("query: %w", context.DeadlineExceeded), true, false},
		"a caller that gave up":                           {context.Canceled, false, false},
		"an error of our own":                             {errors.New("there is no such message"), false, false},
		"a code that is none, as some proxies send":       {state("", ""), false, true},
		"28P01 from a pooler that forwards it on a query": {state("28P01", ""), true, false},
		"28000 the same for pg_hba.conf":                  {state("28000", ""), true, false},
		"3D000 the same for a database being restored":    {state("3D000", ""), true, false},
	} {
		if got := postgres.IsUnavailable(c.err); got != c.unavailable {
			t.Errorf("%s: unavailable is %v", name, got)
		}
		if got := postgres.IsRefused(c.err); got != c.refused {
			t.Errorf("%s: refused is %v", name, got)
		}
	}
}
