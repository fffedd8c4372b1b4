package presence_test

import (
	"fmt"
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
