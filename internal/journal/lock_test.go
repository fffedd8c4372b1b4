package journal_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/parley-chat/parley/internal/audit"
	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/journal"
	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/testenv"
)

// locks are all ways to take a group's lock, by name.
func (h *house) locks(messageID, userID string) map[string]func(tx *gorm.DB) error {
	return map[string]func(tx *gorm.DB) error{
		"Lock":          func(tx *gorm.DB) error { return journal.Lock(tx, h.group) },
		"LockAsMember":  func(tx *gorm.DB) error { return journal.LockAsMember(tx, h.group, userID) },
		"LockOfMessage": func(tx *gorm.DB) error { return h.isGroup(journal.LockOfMessage(tx, messageID)) },
		"LockOfMessageAsMember": func(tx *gorm.DB) error {
			return h.isGroup(journal.LockOfMessageAsMember(tx, messageID, userID))
		},
	}
}

func (h *house) isGroup(conversationID string, err error) error {
	if err == nil && conversationID != h.group {
		h.t.Errorf("the lock of %q was taken, not that of %s", conversationID, h.group)
	}
	return err
}

// While a change is in progress, each way to take the lock waits for it. Only a stranger is refused without waiting.
func TestAHeldLockIsWaitedForByMembersOnly(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	m := h.send("hello")
	stranger := testenv.User(t, h.db.SQL)
	refused := errors.New("roll back")
	err := h.db.Tx(t.Context(), func(holder *gorm.DB) error {
		if err := journal.Lock(holder, h.group); err != nil {
			return err
		}
		wait := func(lock func(tx *gorm.DB) error) error {
			return h.db.Tx(t.Context(), func(tx *gorm.DB) error {
				if _, err := postgres.Exec(tx, `SET LOCAL lock_timeout = '50ms'`); err != nil {
					return err
				}
				return lock(tx)
			})
		}
		for name, lock := range h.locks(m.ID, h.users[1]) {
			if err := wait(lock); !postgres.IsLocked(err) || !postgres.IsUnavailable(err) {
				t.Errorf("%s beside a holder of the lock: %v", name, err)
			}
		}
		of := h.locks(m.ID, stranger)
		for _, name := range []string{"LockAsMember", "LockOfMessageAsMember"} {
			if err := wait(of[name]); !errors.Is(err, journal.ErrNotFound) {
				t.Errorf("%s of a stranger: %v", name, err)
			}
		}
		return refused
	})
	if !errors.Is(err, refused) {
		t.Fatal(err)
	}
	for name, lock := range h.locks(m.ID, h.users[1]) {
		if err := h.db.Tx(t.Context(), lock); err != nil {
			t.Errorf("%s of a free lock: %v", name, err)
		}
	}
	h.group = id.New()
	for name, lock := range h.locks(id.New(), h.users[1]) {
		if err := h.db.Tx(t.Context(), lock); !errors.Is(err, journal.ErrNotFound) {
			t.Errorf("%s of nothing: %v", name, err)
		}
	}
}

// A change that can't be stored is an error and not a missing conversation, and leaves no revision behind.
func TestAChangeThatCannotBeStoredFails(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	m := h.send("hello")
	missing := id.New()
	for name, change := range map[string]func(tx *gorm.DB) error{
		"Note of a missing conversation": func(tx *gorm.DB) error {
			_, err := journal.Note(tx, journal.Change{ConversationID: missing, Kind: journal.Updated})
			return err
		},
		"NoteCreation before the conversation": func(tx *gorm.DB) error {
			_, err := journal.NoteCreation(tx, journal.Change{ConversationID: missing, UserIDs: h.users})
			return err
		},
		"ChangeMessage of a missing message": func(tx *gorm.DB) error {
			_, _, err := journal.ChangeMessage(tx, journal.Change{ConversationID: h.group, Kind: journal.MessageUpdated, MessageID: missing}, "content = $9", "x")
			return err
		},
		"ChangeMessage with a fault": func(tx *gorm.DB) error {
			_, _, err := journal.ChangeMessage(tx, journal.Change{ConversationID: h.group, Kind: journal.MessageUpdated, MessageID: m.ID}, "seq = $9", nil)
			return err
		},
		"NoteAll with a fault": func(tx *gorm.DB) error {
			_, err := journal.NoteAll(tx, []journal.Change{
				{ConversationID: h.group, Kind: journal.Updated},
				{ConversationID: h.group, Kind: journal.MemberRemoved, UserIDs: []string{"nobody"}, MemberDelta: -1},
			})
			return err
		},
	} {
		if err := h.db.Tx(t.Context(), change); err == nil {
			t.Errorf("%s is no error", name)
		}
	}
	if got := h.types(2); len(got) != 0 {
		t.Errorf("failed changes left %v", got)
	}
}

// The server key that acts for a user stands in the journal with the user, whichever way the change is noted.
func TestChangesNameTheKeyThatActs(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	m := h.send("hello")
	acting, own := h.newKey("acting"), h.newKey("own")
	user := event.Actor{UserID: h.users[0]}
	change := func(ctx context.Context, do func(tx *gorm.DB) error) {
		t.Helper()
		if err := h.db.Tx(ctx, do); err != nil {
			t.Fatal(err)
		}
	}
	ctx := audit.With(t.Context(), audit.Actor{UserID: user.UserID, KeyID: acting})
	change(ctx, func(tx *gorm.DB) error {
		_, err := journal.Note(tx, journal.Change{ConversationID: h.group, Kind: journal.Updated, Actor: user})
		return err
	})
	change(ctx, func(tx *gorm.DB) error {
		_, _, err := journal.ChangeMessage(tx, journal.Change{ConversationID: h.group, Kind: journal.MessageUpdated, MessageID: m.ID, Actor: user}, "content = $9", "new")
		return err
	})
	change(ctx, func(tx *gorm.DB) error {
		_, err := journal.NoteAll(tx, []journal.Change{{ConversationID: h.group, Kind: journal.Updated, Actor: user}})
		return err
	})
	change(ctx, func(tx *gorm.DB) error { // a key of the change itself comes first
		_, err := journal.Note(tx, journal.Change{ConversationID: h.group, Kind: journal.Updated, Actor: event.Actor{KeyID: own}})
		return err
	})
	both := event.Actor{UserID: user.UserID, KeyID: acting}
	want := []event.Actor{both, both, both, {KeyID: own}}
	for i, e := range h.after(2, 10).Events {
		if e.Actor != want[i] || e.CommittedAt < time.Now().Add(-time.Hour).UnixMicro() {
			t.Errorf("change %d is by %+v at %d, want %+v", i, e.Actor, e.CommittedAt, want[i])
		}
	}
}

// newKey inserts a server key.
func (h *house) newKey(name string) string {
	h.t.Helper()
	key := id.New()
	h.exec(`INSERT INTO server_keys (id, name, hash, scopes) VALUES ($1, $2, '', '{}')`, key, name)
	return key
}
