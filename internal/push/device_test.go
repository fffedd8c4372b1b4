package push

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/parley-chat/parley/internal/invalid"
	"github.com/parley-chat/parley/internal/jsonbody"
	"github.com/parley-chat/parley/internal/testenv"
)

func TestARegistrationIsChecked(t *testing.T) {
	t.Parallel()
	keys := newBrowser(t).subscribe("https://a.push.example/x").Subscription.Value.Keys
	good := fmt.Sprintf(`{"p256dh":%q,"auth":%q}`, keys.P256dh, keys.Auth)
	for in, want := range map[string]string{
		`{"provider":"webpush","subscription":{"endpoint":"https://a.push.example/x","expirationTime":null,"keys":` + good + `}}`: "",
		`{"provider":"fcm","token":"abc:def"}`:                           "",
		`{"provider":"fcm"}`:                                             "token",
		`{"provider":"fcm","token":null}`:                                "token",
		`{"provider":"fcm","token":"a b"}`:                               "token",
		`{"provider":"fcm","token":""}`:                                  "token",
		`{"provider":"fcm","token":"` + strings.Repeat("a", 4097) + `"}`: "token",
		`{"provider":"apns","token":"x"}`:                                "provider",
		`{"token":"x"}`:                                                  "provider",
		`{"provider":"webpush","token":"x"}`:                             "token subscription",
		`{"provider":"webpush","subscription":null}`:                     "subscription",
		`{"provider":"webpush","subscription":[]}`:                       "subscription",
		`{"provider":"webpush","subscription":{"endpoint":"x","keys":{"p256dh":"AA","auth":"AA"}}}`: "subscription.keys.p256dh subscription.keys.auth subscription.endpoint",
		`{"provider":"webpush","subscription":{}}`:                                                  "subscription.endpoint subscription.keys",
	} {
		var r Registration
		err := jsonbody.Decode([]byte(in), &r)
		var f *invalid.Faults
		got := []string{}
		if errors.As(err, &f) {
			for _, x := range f.List() {
				got = append(got, x.Field)
			}
		} else if err != nil {
			t.Errorf("%s: %v", in, err)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%.120s: the faults are of %q, want %q", in, got, want)
		}
	}
}

func TestHostsOfSubscriptionsAreThoseOfTheList(t *testing.T) {
	t.Parallel()
	h := Hosts{"push.example", "*.wild.example"}
	for host, want := range map[string]bool{
		"push.example": true, "PUSH.example.": true, "a.push.example": false, "xpush.example": false, "wild.example": false,
		"a.wild.example": true, "a.b.wild.example": true, "evilwild.example": false, ".wild.example": false, "": false,
	} {
		if h.Allow(host) != want {
			t.Errorf("%q is allowed: %v", host, !want)
		}
	}
	db := openDB(t)
	s, u := newTestService(db), testenv.User(t, db.SQL)
	for endpoint, ok := range map[string]bool{
		"https://a.push.example/1": true, "http://127.0.0.1:8099/2": true, "http://a.push.example/3": false, "https://evil.example/4": false,
		"https://a.push.example.evil.example/5": false, "https://user:pw@a.push.example/6": false, "https://a.push.example@evil.example/7": false,
	} {
		err := s.Put(t.Context(), u, "", "d", newBrowser(t).subscribe(endpoint))
		if (err == nil) != ok {
			t.Errorf("%s: %v", endpoint, err)
		}
	}
}

func TestDevicesAreReplacedMovedAndBounded(t *testing.T) {
	t.Parallel()
	db := openDB(t)
	s := newTestService(db)
	ana, ben := testenv.User(t, db.SQL), testenv.User(t, db.SQL)
	for i := range maxDevices + 1 {
		if err := s.Put(t.Context(), ana, "", fmt.Sprintf("d%d", i), tokenOf(fmt.Sprintf("t%d", i))); err != nil {
			t.Fatal(err)
		}
	}
	if got := devices(t, db, ana); strings.Contains(got+" ", "d0 ") || len(strings.Fields(got)) != maxDevices {
		t.Errorf("the devices are %s", got)
	}
	if err := s.Put(t.Context(), ana, "", "d1", tokenOf("t1")); err != nil { // seen again
		t.Fatal(err)
	}
	if err := s.Put(t.Context(), ana, "", "one-more", tokenOf("one-more")); err != nil {
		t.Fatal(err)
	}
	if got := devices(t, db, ana) + " "; strings.Contains(got, "d2 ") || !strings.Contains(got, "d1 ") {
		t.Errorf("the devices are %s", got)
	}
	if err := s.Put(t.Context(), ben, "", "phone", tokenOf("t5")); err != nil {
		t.Fatal(err)
	}
	if got := devices(t, db, ana) + " "; strings.Contains(got, "d5 ") || devices(t, db, ben) != "phone" {
		t.Errorf("a token that moved is with both: %s", got)
	}
	if err := errors.Join(s.Delete(t.Context(), ben, "phone"), s.Delete(t.Context(), ben, "phone")); err != nil || devices(t, db, ben) != "" {
		t.Errorf("deleted: %v, %s", err, devices(t, db, ben))
	}
	var f *invalid.Faults
	if err := s.Put(t.Context(), ben, "", "a b", tokenOf("x")); !errors.As(err, &f) {
		t.Errorf("a device without a name: %v", err)
	}
}

func TestOneTokenIsOneDevicesWhoeverRegistersItAtOnce(t *testing.T) {
	t.Parallel()
	db := openDB(t)
	s := newTestService(db)
	users := testenv.Users(t, db.SQL, 8)
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			if err := s.Put(t.Context(), users[i%8], "", fmt.Sprintf("d%d", i%3), tokenOf("the-token")); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := strings.Fields(devices(t, db, "")); len(got) != 1 {
		t.Errorf("%d devices have the token", len(got))
	}
}

// Devices end with their session, with a ban and with the user, in the same transaction, and none is registered afterwards.
func TestDevicesEndWithWhatTheyBelongTo(t *testing.T) {
	t.Parallel()
	db := openDB(t)
	s := newTestService(db)
	for name, end := range map[string]string{
		"the session": `UPDATE sessions SET ended_at = clock_timestamp() WHERE user_id = $1`,
		"a ban":       `UPDATE users SET banned_at = clock_timestamp() WHERE id = $1`,
		"a deletion":  `UPDATE users SET deleted_at = clock_timestamp() WHERE id = $1`,
	} {
		u := testenv.User(t, db.SQL)
		sid := session(t, db, u)
		if err := s.Put(t.Context(), u, sid, "d", tokenOf(name)); err != nil {
			t.Fatal(err)
		}
		level := LevelNone
		if _, err := s.Change(t.Context(), u, &PreferencesChange{Level: jsonbody.Optional[string]{Set: true, Value: level}}); err != nil {
			t.Fatal(err)
		}
		mustExec(t, db, end, u)
		if got := devices(t, db, u); got != "" {
			t.Errorf("after %s: %s", name, got)
		}
		if err := s.Put(t.Context(), u, sid, "d", tokenOf(name)); !errors.Is(err, ErrEnded) {
			t.Errorf("registered after %s: %v", name, err)
		}
	}
	var n int
	if err := db.SQL.QueryRow(`SELECT count(*) FROM push_preferences`).Scan(&n); err != nil || n != 2 {
		t.Errorf("%d preferences are left, %v", n, err)
	}
}

// A registration that waits for the end of its session does not outlive it.
func TestARegistrationBesideItsSessionsEnd(t *testing.T) {
	t.Parallel()
	db := openDB(t)
	s := newTestService(db)
	for i := range 30 {
		u := testenv.User(t, db.SQL)
		sid := session(t, db, u)
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := s.Put(t.Context(), u, sid, "d", tokenOf(fmt.Sprint("t", i))); err != nil && !errors.Is(err, ErrEnded) {
				t.Error(err)
			}
		})
		wg.Go(func() { mustExec(t, db, `UPDATE sessions SET ended_at = clock_timestamp() WHERE id = $1`, sid) })
		wg.Wait()
		if got := devices(t, db, u); got != "" {
			t.Fatalf("a device outlived its session: %s", got)
		}
	}
}

func TestPreferencesHaveDefaultsAndKeepWhatIsAbsent(t *testing.T) {
	t.Parallel()
	db := openDB(t)
	s, u := newTestService(db), testenv.User(t, db.SQL)
	for _, step := range []struct{ change, want string }{
		{``, `{"level":"all","preview":true}`},
		{`{"preview":false}`, `{"level":"all","preview":false}`},
		{`{"level":"mentions"}`, `{"level":"mentions","preview":false}`},
		{`{"level":"none","preview":true}`, `{"level":"none","preview":true}`},
	} {
		if step.change != "" {
			var c PreferencesChange
			if err := jsonbody.Decode([]byte(step.change), &c); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Change(t.Context(), u, &c); err != nil {
				t.Fatal(err)
			}
		}
		p, err := s.Preferences(t.Context(), u)
		if b, _ := json.Marshal(p); err != nil || string(b) != step.want {
			t.Errorf("after %s: %s, %v", step.change, b, err)
		}
	}
	for _, wrong := range []string{`{}`, `{"level":"loud"}`, `{"level":null}`, `{"preview":null}`, `{"preview":"yes"}`, `{"sound":true}`} {
		if err := jsonbody.Decode([]byte(wrong), &PreferencesChange{}); err == nil {
			t.Errorf("%s is fine", wrong)
		}
	}
}
