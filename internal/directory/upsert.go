package directory

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"strings"

	"gorm.io/gorm"

	"github.com/parley-chat/parley/internal/audit"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/invalid"
	"github.com/parley-chat/parley/internal/metadata"
	"github.com/parley-chat/parley/internal/postgres"
)

// What became of an item of a bulk.
const (
	Created   = "created"
	Updated   = "updated"
	Unchanged = "unchanged"
	Failed    = "error"
)

// Item is a user of a bulk, and what became of it. Err is set beforehand for one that is not valid, and by Upsert for one that failed.
type Item struct {
	Draft
	ID, Result string
	Err        error
}

// chunk is how many users go into one transaction: what a user is found by makes each of them some ten rows, and a transaction has to be
// over well before the longest statement is.
const chunk = 250

// Upsert creates and changes users by their external ids, each of them alone: one that is wrong does not hinder the others. The same bulk
// again, also at the same time, changes nothing. A large one takes several transactions; if one of them fails, those before it stand, and
// the same bulk again does the rest.
func (s *Service) Upsert(ctx context.Context, items []*Item) error {
	valid := slices.DeleteFunc(slices.Clone(items), func(i *Item) bool { return i.Err != nil })
	slices.SortFunc(valid, func(a, b *Item) int { return cmp.Compare(a.ExternalID, b.ExternalID) }) // the order of locks
	for part := range slices.Chunk(valid, chunk) {
		if err := s.upsertPart(ctx, part); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) upsertPart(ctx context.Context, valid []*Item) error {
	also := func(err error) bool {
		return errors.Is(err, errCreatedMeanwhile) || postgres.IsUniqueViolation(err, usernameKey)
	}
	err := postgres.Retry(ctx, also, func() error {
		return s.db.Tx(ctx, func(tx *gorm.DB) error { return upsert(ctx, tx, valid) })
	})
	var changed []string // also after an error: the commit may have succeeded
	for _, i := range valid {
		if i.Result == Updated {
			changed = append(changed, i.ID)
		}
	}
	s.onProfile(ctx, changed...)
	return err
}

// errCreatedMeanwhile rolls back a bulk of which others have created a part since it was planned.
var errCreatedMeanwhile = errors.New("users of the bulk were created meanwhile")

func upsert(ctx context.Context, tx *gorm.DB, items []*Item) error {
	ids := make([]string, len(items))
	for n, i := range items {
		ids[n], i.Err = i.ExternalID, nil
	}
	have, err := known(tx, ids)
	if err != nil {
		return err
	}
	users := plan(items, have)
	if err := settleUsernames(tx, items, users, have); err != nil {
		return err
	}
	var created, updated rows
	var log []audit.Entry
	for n, i := range items {
		if i.Err != nil {
			i.Result = Failed
			continue
		}
		switch i.ID = users[n].ID; i.Result {
		case Created:
			created.add(users[n])
		case Updated:
			updated.add(users[n])
		case Unchanged:
			continue
		}
		log = append(log, audit.Entry{Action: "user." + strings.TrimSuffix(i.Result, "d"), TargetType: audit.TargetUser, TargetID: i.ID})
	}
	n, err := created.insert(tx)
	if err != nil {
		return err
	}
	if int(n) < len(created.ids) {
		return errCreatedMeanwhile
	}
	if err := updated.update(tx); err != nil {
		return err
	}
	return audit.Record(ctx, tx, log...)
}

// plan is what each item is to become.
func plan(items []*Item, have map[string]User) []User {
	users := make([]User, len(items))
	for n, i := range items {
		u, exists := have[i.ExternalID]
		before := u
		if !exists {
			u = User{ID: id.New(), ExternalID: &i.ExternalID, Kind: Person, Username: randomUsername(), Metadata: metadata.Object("{}")}
			if !i.DisplayName.Set {
				i.Err = invalid.One("displayName", "is required for a new user")
			}
		}
		i.fields().apply(&u)
		switch {
		case !exists:
			i.Result = Created
		case same(before, u):
			i.Result = Unchanged
		default:
			i.Result = Updated
		}
		users[n] = u
	}
	return users
}

// apply sets the given fields.
func (c *Fields) apply(u *User) {
	if c.Username.Set {
		u.Username = c.Username.Value
	}
	if c.DisplayName.Set {
		u.DisplayName = c.DisplayName.Value
	}
	if c.AvatarURL.Set {
		u.AvatarURL = nil
		if !c.AvatarURL.Null {
			u.AvatarURL = &c.AvatarURL.Value
		}
	}
	if c.Metadata.Set {
		u.Metadata = metadata.Object("{}")
		if !c.Metadata.Null && len(c.Metadata.Value) > 0 {
			u.Metadata = c.Metadata.Value
		}
	}
	if c.Kind.Set {
		u.Kind = c.Kind.Value
	}
}

func same(a, b User) bool {
	return a.Username == b.Username && a.DisplayName == b.DisplayName && a.Kind == b.Kind && string(a.Metadata) == string(b.Metadata) &&
		(a.AvatarURL == nil) == (b.AvatarURL == nil) && (a.AvatarURL == nil || *a.AvatarURL == *b.AvatarURL)
}

// settleUsernames refuses those that somebody else has, or an item before has taken. It returns errCreatedMeanwhile if an item's own user
// has its username already and is not in have: another bulk made that user after have was read.
func settleUsernames(tx *gorm.DB, items []*Item, users []User, have map[string]User) error {
	var wanted []string
	for n, i := range items {
		if i.Username.Set && i.Err == nil && have[i.ExternalID].Username != users[n].Username {
			wanted = append(wanted, users[n].Username)
		}
	}
	if len(wanted) == 0 {
		return nil
	}
	by, err := bearers(tx, wanted)
	if err != nil {
		return err
	}
	for n, i := range items {
		if !i.Username.Set || i.Err != nil || have[i.ExternalID].Username == users[n].Username {
			continue
		}
		switch b, taken := by[users[n].Username]; {
		case !taken:
			by[users[n].Username] = &i.ExternalID
		case b != nil && *b == i.ExternalID:
			return errCreatedMeanwhile
		default:
			i.Err = ErrUsernameTaken
		}
	}
	return nil
}

// randomUsername is "user_" and 12 characters.
func randomUsername() string { return "user_" + strings.ToLower(rand.Text()[:12]) }
