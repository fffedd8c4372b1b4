package message_test

import (
	"database/sql"
	"fmt"
	"strings"
	"testing"

	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/message"
	"github.com/parley-chat/parley/internal/testenv"
)

// A plan is kept for as long as its connection, or until the table is analyzed: one that is made while the table of messages is new must
// neither read it whole for each batch when it has grown, nor all messages of the conversation. Sizes at which the costs of the indexes
// are equal have to be among those that are tried.
func TestPlanOfNewTableSeeksMessages(t *testing.T) {
	t.Parallel()
	c := prepared(t)
	execute := func(query string, args ...any) {
		t.Helper()
		if _, err := c.ExecContext(t.Context(), query, args...); err != nil {
			t.Fatal(err)
		}
	}
	user, group := id.New(), id.New()
	execute(`INSERT INTO users (id, username, display_name, password_hash) VALUES ($1, 'anna', 'Anna', '!')`, user)
	execute(`INSERT INTO conversations (id, type, name, last_message_at, member_count, created_at) VALUES ($1, 'group', 'Team', now(), 0, now())`, group)
	size := 0
	for _, n := range []int{0, 1, 10, 40, 100, 400, 2000} {
		execute(`INSERT INTO messages (id, conversation_id, seq, revision, sender_id, content, client_message_id, created_at)
			SELECT gen_random_uuid(), $1, i, i, $2, 'hello', 'm' || i, now() FROM generate_series($3::int + 1, $4) i`, group, user, size, n)
		size = n
		execute(`DEALLOCATE send`)
		execute(`PREPARE send AS ` + message.SendSQL())
		plan := testenv.KeptPlan(t, c, `send ('{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', NULL)`)
		if strings.Contains(plan, "Seq Scan on messages") || strings.Contains(plan, "messages_seq_key") ||
			!strings.Contains(plan, "messages_client_message_id_key") || !strings.Contains(plan, "messages_pkey") {
			t.Errorf("with %d messages the plan is not by the right indexes:\n%s", n, plan)
		}
	}
}

// The same for reactions. The conversations are locked as by a send, by an array of ids.
func TestPlanOfNewTablesSeeksReactions(t *testing.T) {
	t.Parallel()
	c := prepared(t)
	arguments := map[string]string{"lock_reacted": `('{}', '{}')`, "react": `('{}', '{}', '{}', '{}', '{}')`}
	for name, query := range message.ReactSQL {
		if _, err := c.ExecContext(t.Context(), `PREPARE `+name+` AS `+query); err != nil {
			t.Fatal(err)
		}
		plan := testenv.KeptPlan(t, c, name+arguments[name])
		for _, table := range []string{"messages", "message_reactions", "conversation_members", "blocks"} {
			if strings.Contains(plan, "Seq Scan on "+table) {
				t.Errorf("the plan of %s reads all %s:\n%s", name, table, plan)
			}
		}
		testenv.PlanIsKept(t, c, name, func() string {
			x := "{" + id.New() + "}"
			return map[string]string{
				"lock_reacted": fmt.Sprintf(`lock_reacted ('%[1]s', '%[1]s')`, x), "react": fmt.Sprintf(`react ('{0}', '%[1]s', '%[1]s', '{x}', '{true}')`, x),
			}[name]
		})
	}
}

// Planning costs more than a small batch. Postgres plans anew as long as that looks cheaper than the plan that it would
// keep, which a batch of one must not make it believe.
func TestPlanIsKeptForSmallBatches(t *testing.T) {
	t.Parallel()
	testenv.PlanIsKept(t, prepared(t), "send", func() string {
		return fmt.Sprintf(`send ('{0}', '{%[1]s}', '{%[1]s}', '{%[1]s}', '{hello}', '{%[1]s}', '{NULL}', '{NULL}', NULL)`, id.New())
	})
}

// prepared is a connection that has prepared the statement of a batch as send.
func prepared(t *testing.T) *sql.Conn {
	t.Helper()
	c, err := newPod(t, testenv.Postgres(t)).db.SQL.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if _, err := c.ExecContext(t.Context(), `PREPARE send AS `+message.SendSQL()); err != nil {
		t.Fatal(err)
	}
	return c
}
