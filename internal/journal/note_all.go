package journal

import (
	_ "embed"
	"fmt"
	"strings"

	"gorm.io/gorm"

	"github.com/parley-chat/parley/internal/postgres"
)

//go:embed note_all.sql
var noteAllSQL string

// NoteAll is Note for several changes in one statement, of one or more conversations, whose locks the caller holds. All changes must have the same
// Actor, and none may concern a message. It returns the Stamps in the order of the changes.
func NoteAll(tx *gorm.DB, changes []Change) ([]Stamp, error) {
	n := len(changes)
	if n == 0 {
		return nil, nil
	}
	ord, delta := make([]int32, n), make([]int32, n)
	ids, kinds, users, details := make([]string, n), make([]string, n), make([]string, n), make([]*string, n)
	for i, c := range changes {
		kind, detail := c.Kind.columns()
		ord[i], delta[i] = int32(i), int32(c.MemberDelta) //nolint:gosec // some thousands at most
		ids[i], kinds[i], users[i], details[i] = c.ConversationID, string(kind), strings.Join(c.UserIDs, ","), (*string)(detail)
	}
	actor := changes[0].Actor
	out, err := postgres.Collect(postgres.Context(tx), postgres.In(tx), func(r postgres.Row, s *Stamp) error {
		return r.Scan(&s.Revision, &s.MemberCount, &s.CommittedAt)
	}, noteAllSQL, ord, ids, kinds, details, users, delta, orNull(actor.UserID), orNull(keyOf(tx, actor)))
	if err != nil {
		return nil, fmt.Errorf("note changes: %w", err)
	}
	if len(out) != n {
		return nil, fmt.Errorf("note changes: %w", ErrNotFound)
	}
	return out, nil
}
