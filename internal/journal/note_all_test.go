package journal_test

import (
	"fmt"
	"testing"

	"gorm.io/gorm"

	"github.com/parley-chat/parley/internal/conversation"
	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/journal"
)

// Many changes in one statement are what the same changes are one by one: revisions in order, counts as they were in between.
func TestNoteAllIsAsNoteOneByOne(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	name := "another"
	c, _, err := h.groups.Create(t.Context(), h.users[0], &conversation.Creation{Type: "group", MemberIDs: h.users[1:], Name: &name})
	if err != nil {
		t.Fatal(err)
	}
	h.send("a message")
	actor := event.Actor{UserID: h.users[0]}
	changes := []journal.Change{
		{ConversationID: h.group, Kind: journal.MemberRemoved, UserIDs: h.users[1:], MemberDelta: -2, Actor: actor},
		{ConversationID: c.ID, Kind: journal.MemberRemoved, UserIDs: h.users[:1], MemberDelta: -1, Actor: actor},
		{ConversationID: h.group, Kind: journal.MemberUpdated, UserIDs: h.users[:1], Actor: actor},
		{ConversationID: h.group, Kind: journal.Updated, Actor: actor},
	}
	var got []journal.Stamp
	err = h.db.Tx(t.Context(), func(tx *gorm.DB) error {
		if got, err = journal.NoteAll(tx, nil); got != nil || err != nil {
			t.Errorf("nothing: %v, %v", got, err)
		}
		got, err = journal.NoteAll(tx, changes)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"3 1", "2 2", "4 1", "5 1"} // revision and member count
	for i, s := range got {
		if x := fmt.Sprint(s.Revision, " ", s.MemberCount); x != want[i] || s.CommittedAt.IsZero() {
			t.Errorf("change %d is %s (%v), want %s", i, x, s.CommittedAt, want[i])
		}
	}
	var rows int
	if err := h.db.SQL.QueryRow(`SELECT count(*) FROM conversation_changes WHERE actor_id = $1 AND (
		conversation_id = $2 AND (revision, kind, coalesce(detail, '-'), coalesce(array_length(user_ids, 1), 0), last_seq) IN
			((3, 'member_removed', '-', 2, 1), (4, 'updated', 'member_updated', 1, 1), (5, 'updated', '-', 0, 1)) OR
		conversation_id = $3 AND (revision, kind) = (2, 'member_removed'))`, actor.UserID, h.group, c.ID).Scan(&rows); err != nil || rows != 4 {
		t.Errorf("%d of 4 rows are as they should be, %v", rows, err)
	}
	err = h.db.Tx(t.Context(), func(tx *gorm.DB) error {
		_, err := journal.NoteAll(tx, []journal.Change{{ConversationID: id.New(), Kind: journal.Updated, Actor: actor}})
		return err
	})
	if err == nil {
		t.Error("a conversation that is not there was changed")
	}
}
