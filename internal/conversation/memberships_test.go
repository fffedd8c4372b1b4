package conversation_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/parley-chat/parley/internal/conversation"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/testenv"
)

// Each socket that opens reads its user's memberships: planning must not cost more than that. A kept plan that was made while the
// tables were empty must be by index.
func TestThePlanOfMembershipsIsKept(t *testing.T) {
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
	if _, err := c.ExecContext(t.Context(), `PREPARE memberships AS `+conversation.MembershipsSQL); err != nil {
		t.Fatal(err)
	}
	statement := func() string { return fmt.Sprintf(`memberships ('{%s}')`, id.New()) }
	if plan := testenv.KeptPlan(t, c, statement()); strings.Contains(plan, "Seq Scan") {
		t.Errorf("the plan is not by index:\n%s", plan)
	}
	testenv.PlanIsKept(t, c, "memberships", statement)
}
