package presence_test

import (
	"database/sql"
	"fmt"
	"strings"
	"testing"

	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/presence"
	"github.com/parley-chat/parley/internal/testenv"
)

// Planning costs more than what these do for one socket: Postgres must not think that a plan for one element is worth it.
func TestPlansAreKeptForOneSocket(t *testing.T) {
	t.Parallel()
	db, err := postgres.OpenPool(postgres.Config{URL: testenv.Postgres(t), MaxConns: 1, Application: "test"})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	c, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	arguments := map[string]string{"peers": `'{%s}', 10000`, "visible": `'{%s}', '{%[1]s}'`}
	for name, query := range presence.PairQueries {
		if _, err := c.ExecContext(t.Context(), `PREPARE `+name+` AS `+query); err != nil {
			t.Fatal(err)
		}
		explain(t, c, fmt.Sprintf(name+` (`+arguments[name]+`)`, id.New()))
		const times, tried = 12, 5 // Postgres plans the first five times, to compare
		for range times {
			if _, err := c.ExecContext(t.Context(), fmt.Sprintf(`EXECUTE `+name+` (`+arguments[name]+`)`, id.New())); err != nil {
				t.Fatal(err)
			}
		}
		var planned int
		if err := c.QueryRowContext(t.Context(), `SELECT custom_plans FROM pg_prepared_statements WHERE name = $1`, name).Scan(&planned); err != nil {
			t.Fatal(err)
		}
		if planned > tried {
			t.Errorf("%s: planned %d times of %d", name, planned, times)
		}
	}
}

// explain wants a kept plan that was made while the tables were new to be by index: they grow under it.
func explain(t *testing.T, c *sql.Conn, statement string) {
	t.Helper()
	if _, err := c.ExecContext(t.Context(), `SET plan_cache_mode = force_generic_plan`); err != nil {
		t.Fatal(err)
	}
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
	if all := strings.Join(plan, "\n"); rows.Err() != nil || strings.Contains(all, "Seq Scan") {
		t.Errorf("the plan is not by index (%v):\n%s", rows.Err(), all)
	}
	if _, err := c.ExecContext(t.Context(), `RESET plan_cache_mode`); err != nil {
		t.Fatal(err)
	}
}
