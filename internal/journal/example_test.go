package journal_test

import (
	"context"
	"fmt"

	"gorm.io/gorm"

	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/journal"
	"github.com/parley-chat/parley/internal/postgres"
)

// A domain changes a conversation in one transaction: the lock, its own statements, and the row of the change. It publishes after the
// commit. The example needs a database and is only compiled.
func ExampleNote() {
	rename := func(ctx context.Context, db *postgres.DB, conversationID, userID, name string) (revision int64, err error) {
		var at journal.Stamp
		err = db.Tx(ctx, func(tx *gorm.DB) error {
			if err := journal.LockAsMember(tx, conversationID, userID); err != nil {
				return err
			}
			if _, err := postgres.Exec(tx, `UPDATE conversations SET name = $2 WHERE id = $1`, conversationID, name); err != nil {
				return err
			}
			at, err = journal.Note(tx, journal.Change{ConversationID: conversationID, Kind: journal.Updated, Actor: event.Actor{UserID: userID}})
			return err
		})
		return at.Revision, err
	}
	_ = rename
}

// A pod that has delivered a revision reads everything that followed, in order and without a gap.
func ExampleFeed_After() {
	var feed *journal.Feed
	repair := func(ctx context.Context, conversationID string, delivered int64) error {
		const limit = 200
		for {
			missed, err := feed.After(ctx, conversationID, delivered, limit)
			if err != nil {
				return err
			}
			for _, e := range missed.Events {
				fmt.Println(e.Revision, e.Type)
				delivered = e.Revision
			}
			if len(missed.Events) < limit {
				return nil
			}
		}
	}
	_ = repair
}
