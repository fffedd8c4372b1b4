package testenv

import (
	"context"
	"net/url"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/parley-chat/parley/internal/postgres"
)

// StatementCut stands before a database and breaks the connection right before a chosen statement is sent. It serves the one connection of
// Open's pool.
type StatementCut struct {
	proxy *Proxy
	url   string
	left  atomic.Int64 // the number of statements up to the one that is not sent
}

// NewStatementCut starts one before a database. It ends with the test.
func NewStatementCut(t testing.TB, database string) *StatementCut {
	t.Helper()
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	c := &StatementCut{proxy: NewProxy(t, u.Host)}
	u.Host = c.proxy.Addr()
	c.url = u.String()
	return c
}

// Open opens a pool of one connection through it, which is closed at the end of the test.
func (c *StatementCut) Open(t testing.TB) *postgres.DB {
	t.Helper()
	return Open(t, postgres.Config{URL: c.url, MaxConns: 1, Tracer: c})
}

// EachStatement calls do again and again. In the first call the connection breaks before the first statement, in the second call before the second,
// and so on, until a call has sent all of its statements, which must succeed. Each other call must return an error. The errors are returned in
// the order of the statements. Begin and commit count as statements. Rollback doesn't, because a broken connection does that too.
func (c *StatementCut) EachStatement(t testing.TB, do func() error) []error {
	t.Helper()
	var errs []error
	for n := int64(1); ; n++ {
		c.left.Store(n)
		err := do()
		if c.left.Swap(0) > 0 { // it was not reached
			if err != nil {
				t.Errorf("with all statements sent: %v", err)
			}
			return errs
		}
		c.proxy.Mend()
		if err == nil {
			t.Errorf("the connection broke before statement %d, and no error was returned", n)
		}
		errs = append(errs, err)
	}
}

// TraceQueryStart implements pgx.QueryTracer. It is called before a statement is sent.
func (c *StatementCut) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	if data.SQL != "rollback" && c.left.Load() > 0 && c.left.Add(-1) == 0 {
		c.proxy.Cut()
	}
	return ctx
}

// TraceQueryEnd implements pgx.QueryTracer.
func (*StatementCut) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}
