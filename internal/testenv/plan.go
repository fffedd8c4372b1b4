package testenv

import (
	"database/sql"
	"strings"
	"testing"
)

// KeptPlan is the plan that Postgres would keep for a statement that the connection prepared, identified by its name, with
// arguments, such as "send (1, 2)".
func KeptPlan(t testing.TB, c *sql.Conn, statement string) string {
	t.Helper()
	execute(t, c, `SET plan_cache_mode = force_generic_plan`)
	defer execute(t, c, `RESET plan_cache_mode`)
	rows, err := c.QueryContext(t.Context(), `EXPLAIN EXECUTE `+statement)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var plan []string
	for rows.Next() {
		var line string
		if err := rows.Scan(&line); err != nil {
			t.Fatal(err)
		}
		plan = append(plan, line)
	}
	if rows.Err() != nil {
		t.Fatal(rows.Err())
	}
	return strings.Join(plan, "\n")
}

// PlanIsKept fails where Postgres plans a prepared statement anew each time that it runs. statement makes what is executed,
// as for KeptPlan.
func PlanIsKept(t testing.TB, c *sql.Conn, name string, statement func() string) {
	t.Helper()
	const times, tried = 12, 5 // Postgres plans the first five times, to compare
	for range times {
		execute(t, c, `EXECUTE `+statement())
	}
	var planned int
	if err := c.QueryRowContext(t.Context(), `SELECT custom_plans FROM pg_prepared_statements WHERE name = $1`, name).Scan(&planned); err != nil {
		t.Fatal(err)
	}
	if planned > tried {
		t.Errorf("%s is planned %d times of %d", name, planned, times)
	}
}

func execute(t testing.TB, c *sql.Conn, query string) {
	t.Helper()
	if _, err := c.ExecContext(t.Context(), query); err != nil {
		t.Fatal(err)
	}
}
