package serverkey_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/principal"
	"github.com/parley-chat/parley/internal/serverkey"
	"github.com/parley-chat/parley/internal/testenv"
)

func TestAKeyEndedElsewhereIsRefused(t *testing.T) {
	t.Parallel()
	s := newSafe(t)
	k, stays := s.create("shop", "users"), s.create("stays", "users")
	pod := safeOver(t, s.db, "")
	if !pod.accepts(k.Secret) || !pod.accepts(stays.Secret) {
		t.Fatal("a new key was refused")
	}
	if err := s.End(t.Context(), k.ID); err != nil {
		t.Fatal(err)
	}
	if !pod.accepts(k.Secret) {
		t.Error("the pod asks Postgres for a key that it knows")
	}
	pod.run()
	testenv.Eventually(t, patience, func() bool { return !pod.accepts(k.Secret) }, "the ended key is refused")
	if !pod.accepts(stays.Secret) {
		t.Error("another key is refused too")
	}
}

func (s *safe) lastUse(keyID string) (exact bool) {
	s.t.Helper()
	keys, err := s.List(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	for _, k := range keys {
		if k.ID == keyID && k.LastUsedAt != nil {
			return k.LastUsedAt.Minute() == 0 && k.LastUsedAt.Second() == 0 && k.LastUsedAt.Nanosecond() == 0
		}
	}
	return false
}

// What could not be written during an outage is written after it, and the outage is logged once.
func TestTheHourOfTheLastUseIsNoted(t *testing.T) {
	t.Parallel()
	s := newSafe(t)
	k, idle := s.create("shop", "users"), s.create("idle", "users")
	s.accepts(k.Secret)
	s.exec(`CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'refused'; END $$`)
	s.exec(`CREATE TRIGGER refuse BEFORE UPDATE ON server_keys FOR EACH ROW EXECUTE FUNCTION refuse()`)
	s.run()
	const warning = "cannot be asked for server keys"
	testenv.Eventually(t, patience, func() bool { return s.log.Count(warning) == 1 }, "a warning")
	if s.lastUse(k.ID) {
		t.Error("the use was noted during the outage")
	}
	s.exec(`DROP TRIGGER refuse ON server_keys`)
	testenv.Eventually(t, patience, func() bool { return s.lastUse(k.ID) }, "the hour of the use is noted")
	if s.lastUse(idle.ID) || s.log.Count(warning) != 1 {
		t.Errorf("an idle key has a use, or the log has more warnings: %s", s.log)
	}
}

// token is a whole key, which no service made.
func token(secret string) string {
	return "parley_sk_" + strings.ReplaceAll(id.New(), "-", "") + "_" + strings.Repeat(secret, 43)
}

func TestTheBootstrapKeyIsMadeOnce(t *testing.T) {
	t.Parallel()
	bootstrap, db := token("s"), newSafe(t).db
	pods := []*safe{safeOver(t, db, bootstrap).run(), safeOver(t, db, bootstrap).run()}
	for _, pod := range pods {
		testenv.Eventually(t, patience, func() bool { return pod.accepts(bootstrap) }, "the bootstrap key is accepted")
	}
	p, err := pods[0].Authenticate(t.Context(), bootstrap)
	if err != nil || len(p.Scopes.Beyond(principal.AllScopes())) != 0 || pods[0].names() != "bootstrap" {
		t.Errorf("%+v, %v, listed %q", p, err, pods[0].names())
	}
	if err := pods[0].End(t.Context(), p.KeyID); err != nil {
		t.Fatal(err)
	}
	next := token("n")
	later := safeOver(t, db, next).run()
	testenv.Eventually(t, patience, func() bool { return later.accepts(next) }, "the next bootstrap key is accepted")
	again := safeOver(t, db, bootstrap)
	used := again.create("used", "users")
	again.accepts(used.Secret)
	again.run()
	testenv.Eventually(t, patience, func() bool { return again.lastUse(used.ID) }, "the pod has started")
	if again.accepts(bootstrap) {
		t.Error("a bootstrap key that was ended came back")
	}
}

// The name of a bootstrap key that is still in use does not hinder another one.
func TestANewBootstrapKeyTakesAnotherName(t *testing.T) {
	t.Parallel()
	s := newSafe(t)
	first := s.create("bootstrap", "users")
	next := token("n")
	keyID, _ := serverkey.Parse(next)
	pod := safeOver(t, s.db, next).run()
	testenv.Eventually(t, patience, func() bool { return pod.accepts(next) }, "the key is accepted")
	if got, want := s.names(), "bootstrap "+strings.ReplaceAll(keyID, "-", "")+" bootstrap"; got != want || !pod.accepts(first.Secret) {
		t.Errorf("listed %q, want %q", got, want)
	}
}

func TestABadBootstrapKeyIsRefused(t *testing.T) {
	t.Parallel()
	s := newSafe(t)
	k := s.create("shop", "users")
	forged := k.Secret[:len(k.Secret)-43] + strings.Repeat("A", 43)
	for bootstrap, says := range map[string]string{forged: "has the id of another key", "parley_sk_short": "is no server key"} {
		pod := safeOver(t, s.db, bootstrap).run()
		testenv.Eventually(t, patience, func() bool { return pod.log.Count(says) == 1 }, "the log says that it %s", says)
		if pod.accepts(bootstrap) || !pod.accepts(k.Secret) || s.names() != "shop" {
			t.Errorf("%s is accepted, or the keys are %q", bootstrap, s.names())
		}
		if strings.Contains(pod.log.String(), bootstrap) {
			t.Errorf("the log has the key: %s", pod.log)
		}
	}
}

// A broken connection is not taken for a key that does not exist, and changes nothing.
func TestABrokenConnectionFailsTheWholeCall(t *testing.T) {
	t.Parallel()
	cut := testenv.NewStatementCut(t, testenv.Postgres(t))
	s := safeOver(t, cut.Open(t), "")
	var made serverkey.Created
	calls := []struct {
		name       string
		call       func() error
		statements int
	}{
		{"Create", func() (err error) {
			made, err = s.Create(t.Context(), nil, &serverkey.Draft{Name: "shop", Scopes: []string{"users"}})
			return err
		}, 7}, // begin, lock, end, count, insert, record, commit
		{"List", func() error { _, err := s.List(t.Context()); return err }, 1},
		{"Authenticate", func() error { _, err := s.Authenticate(t.Context(), made.Secret); return err }, 1},
		{"End", func() error { return s.End(t.Context(), made.ID) }, 4}, // begin, end, record, commit
	}
	for _, c := range calls {
		errs := cut.EachStatement(t, c.call)
		if len(errs) != c.statements {
			t.Errorf("%s failed %d times, want %d", c.name, len(errs), c.statements)
		}
		for _, err := range errs {
			if errors.Is(err, serverkey.ErrUnauthorized) || errors.Is(err, serverkey.ErrNotFound) || errors.Is(err, serverkey.ErrNameTaken) {
				t.Errorf("%s: %v", c.name, err)
			}
		}
	}
	if got := s.logged(made.ID); got != "key.create shop, key.end shop" {
		t.Errorf("logged %q", got)
	}
}
