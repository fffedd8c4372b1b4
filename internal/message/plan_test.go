package message_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/message"
	"github.com/parley-chat/parley/internal/testenv"
)

// A plan is kept for as long as its connection: one that is made while the table of messages is new must not read it
// whole for each batch when it has grown.
func TestPlanOfNewTableSeeksMessages(t *testing.T) {
	t.Parallel()
	p := newPod(t, testenv.Postgres(t))
	c, err := p.db.SQL.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, q := range []string{`SET plan_cache_mode = force_generic_plan`, `PREPARE send AS ` + message.SendSQL()} {
		if _, err := c.ExecContext(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	rows, err := c.QueryContext(t.Context(), `EXPLAIN EXECUTE send ('{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', NULL)`)
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
	all := strings.Join(plan, "\n")
	if rows.Err() != nil || strings.Contains(all, "Seq Scan on messages") || !strings.Contains(all, "messages_client_message_id_key") {
		t.Errorf("the plan is not by index (%v):\n%s", rows.Err(), all)
	}
}

// Planning costs more than a small batch. Postgres plans anew as long as that looks cheaper than the plan that it would
// keep, which a batch of one must not make it believe.
func TestPlanIsKeptForSmallBatches(t *testing.T) {
	t.Parallel()
	p := newPod(t, testenv.Postgres(t))
	c, err := p.db.SQL.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.ExecContext(t.Context(), `PREPARE send AS `+message.SendSQL()); err != nil {
		t.Fatal(err)
	}
	const times, tried = 12, 5 // Postgres plans the first five times, to compare
	for range times {
		_, err := c.ExecContext(t.Context(), fmt.Sprintf(`EXECUTE send ('{0}', '{%[1]s}', '{%[1]s}', '{%[1]s}', '{hello}', '{%[1]s}', '{NULL}', '{NULL}', NULL)`, id.New()))
		if err != nil {
			t.Fatal(err)
		}
	}
	var planned int
	if err := c.QueryRowContext(t.Context(), `SELECT custom_plans FROM pg_prepared_statements WHERE name = 'send'`).Scan(&planned); err != nil {
		t.Fatal(err)
	}
	if planned > tried {
		t.Errorf("planned %d times of %d", planned, times)
	}
}
