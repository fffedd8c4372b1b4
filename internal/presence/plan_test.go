package presence_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/presence"
	"github.com/parley-chat/parley/internal/testenv"
)

// Planning costs more than what these do for one socket: Postgres must not think that a plan for one element is worth it. And
// a kept plan that was made while the tables were new must be by index: they grow under it.
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
		statement := func() string { return fmt.Sprintf(name+` (`+arguments[name]+`)`, id.New()) }
		if plan := testenv.KeptPlan(t, c, statement()); strings.Contains(plan, "Seq Scan") {
			t.Errorf("the plan is not by index:\n%s", plan)
		}
		testenv.PlanIsKept(t, c, name, statement)
	}
}
