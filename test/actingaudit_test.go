package test

import (
	"crypto/ecdh"
	"crypto/rand"
	"database/sql"
	"encoding/base64"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/testenv"
)

// writeLogSQL makes every table note the transactions that change its rows, except the audit log itself.
const writeLogSQL = `CREATE TABLE write_log (at bigserial, xid xid8, tbl text);
CREATE FUNCTION log_write() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN INSERT INTO write_log (xid, tbl) VALUES (pg_current_xact_id(), TG_TABLE_NAME); RETURN NULL; END $$;
DO $$ DECLARE t text; BEGIN
	FOR t IN SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r'
		AND c.relname NOT IN ('write_log', 'audit_log', 'server_keys', 'history', 'goose_db_version') LOOP
		EXECUTE format('CREATE TRIGGER log_write AFTER INSERT OR UPDATE OR DELETE ON %I FOR EACH ROW EXECUTE FUNCTION log_write()', t);
	END LOOP;
END $$`

// recorder makes requests of a key, for users or its own, and looks up what each wrote.
type recorder struct {
	*testing.T
	p       *pod
	key     string
	db      *sql.DB
	changed map[string]bool // the operations that changed something
}

// entry is of the audit log, with the transaction that wrote it.
type entry struct{ action, target, xid string }

// request makes a request for a user, or for the key without one, and returns its entries and the transactions that changed rows meanwhile.
func (r *recorder) request(status int, u user, method, path string, body any) (a answer, entries []entry, writes []string) {
	r.Helper()
	var from int64
	r.scan(&from, `SELECT coalesce(max(at), 0) FROM write_log`)
	var acting []string
	if u.ID != "" {
		acting = []string{"Parley-User", u.ID}
	}
	a = r.p.want(r, status, r.key, method, path, body, acting...)
	rows, err := r.db.Query(`SELECT action, target_type || ' ' || target_id, xmin::text FROM audit_log WHERE request_id = $1`, a.header.Get("X-Request-Id"))
	if err != nil {
		r.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var e entry
		if err := rows.Scan(&e.action, &e.target, &e.xid); err != nil {
			r.Fatal(err)
		}
		entries = append(entries, e)
	}
	var list string
	r.scan(&list, `SELECT coalesce(string_agg(DISTINCT (xid::text::bigint % (1::bigint << 32))::text, ' '), '') FROM write_log WHERE at > $1`, from)
	return a, entries, strings.Fields(list)
}

func (r *recorder) scan(v any, query string, args ...any) {
	r.Helper()
	if err := r.db.QueryRow(query, args...).Scan(v); err != nil {
		r.Fatal(err)
	}
}

// changes makes a request that must have one entry, in the only transaction that changed anything.
func (r *recorder) changes(status int, u user, method, path string, body any) (answer, entry) {
	r.Helper()
	a, entries, writes := r.request(status, u, method, path, body)
	if len(entries) != 1 || !slices.Equal(writes, []string{entries[0].xid}) {
		r.Fatalf("%s %s has the entries %v, and the transactions %v", method, path, entries, writes)
	}
	r.covers(method, path)
	return a, entries[0]
}

// changesNothing makes a request, refused or repeated, that must have no entry and change nothing.
func (r *recorder) changesNothing(status int, u user, method, path string, body any) {
	r.Helper()
	if _, entries, writes := r.request(status, u, method, path, body); len(entries) > 0 || len(writes) > 0 {
		r.Errorf("%s %s: %d has the entries %v and the transactions %v", method, path, status, entries, writes)
	}
}

// newRecorder starts a pod with everything that user routes need, and notes all writes to its database.
func newRecorder(t *testing.T, scopes string, env ...string) *recorder {
	t.Helper()
	private, _ := vapidKey(t)
	s := start(t, 1, slices.Concat(testenv.Storage(t).Settings(), env, []string{"PARLEY_RATE_LIMIT_SERVER=off", "PARLEY_RATE_LIMIT_REACT=off",
		"PARLEY_PUSH_VAPID_PRIVATE_KEY=" + private, "PARLEY_PUSH_VAPID_SUBJECT=mailto:ops@example.com"})...)
	db, err := sql.Open("pgx", s.pg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	r := &recorder{t, s.pods[0], s.createKey(t, "back end", scopes), db, map[string]bool{}}
	// Until the key is known and its use is noted.
	r.p.want(t, 200, r.key, "GET", "/api/users/me", nil, "Parley-User", r.p.register(t).ID)
	if _, err := db.Exec(writeLogSQL); err != nil {
		t.Fatal(err)
	}
	return r
}

// covers notes that the operation of a path changed something. Ids and names of paths are not those of other operations.
func (r *recorder) covers(method, path string) {
	r.Helper()
	doc, err := document()
	if err != nil {
		r.Fatal(err)
	}
	for _, op := range doc.Operations() {
		m, template, _ := strings.Cut(op, " ")
		if m != method || r.changed[op] && strings.Contains(template, "{") {
			continue
		}
		pattern := "^" + regexp.MustCompile(`\\\{[^}]+\\\}`).ReplaceAllString(regexp.QuoteMeta(template), "[^/]+") + "$"
		if regexp.MustCompile(pattern).MatchString(path) {
			r.changed[op] = true
		}
	}
}

// TestEveryWriteOfAnActingKeyHasItsEntry makes every operation of users that changes something, by a key that acts for them. The change and
// its entry of the audit log must be of one transaction. Repeated and refused requests must have no entry.
func TestEveryWriteOfAnActingKeyHasItsEntry(t *testing.T) {
	t.Parallel()
	r := newRecorder(t, "act")
	r.accounts()
	r.relations()
	r.conversations()
	r.messages()
	r.files()
	r.reads()
	var unsigned int
	r.scan(&unsigned, `SELECT count(*) FROM conversation_changes c JOIN audit_log a ON a.xmin = c.xmin WHERE c.key_id IS DISTINCT FROM a.actor_key_id`)
	if unsigned > 0 {
		t.Errorf("%d changes of conversations lack the key", unsigned)
	}
	doc, err := document()
	if err != nil {
		t.Fatal(err)
	}
	for _, op := range doc.Operations() {
		reads := strings.HasPrefix(op, "GET ") || op == "POST /api/attachments/urls"
		if doc.Scope(op) == "act" && !reads && !r.changed[op] {
			t.Errorf("%s is not tried", op)
		}
	}
}

func (r *recorder) accounts() {
	u, stranger := r.p.register(r), r.p.register(r)
	profile := anyJSON{"displayName": "Ana"}
	r.changes(200, u, "PATCH", "/api/users/me", profile)
	r.changesNothing(200, u, "PATCH", "/api/users/me", profile)
	r.changesNothing(400, u, "PATCH", "/api/users/me", anyJSON{"displayName": ""})
	r.changes(200, u, "PATCH", "/api/users/me/privacy", anyJSON{"readReceiptsEnabled": false})
	r.changesNothing(200, u, "PATCH", "/api/users/me/privacy", anyJSON{"readReceiptsEnabled": false})
	r.changes(200, u, "PATCH", "/api/push/preferences", anyJSON{"level": "none"})
	r.changesNothing(200, u, "PATCH", "/api/push/preferences", anyJSON{"level": "none"})
	r.changes(204, u, "PUT", "/api/push/devices/phone", anyJSON{"provider": "webpush", "subscription": subscriptionOf(r)})
	r.changes(204, u, "DELETE", "/api/push/devices/phone", nil)
	r.changesNothing(204, u, "DELETE", "/api/push/devices/phone", nil)

	var sessions struct{ Data []struct{ ID string } }
	r.p.want(r, 200, u.token, "GET", "/api/auth/sessions", nil).into(r, &sessions)
	r.changesNothing(404, stranger, "DELETE", "/api/auth/sessions/"+sessions.Data[0].ID, nil)
	r.changes(204, u, "DELETE", "/api/auth/sessions/"+sessions.Data[0].ID, nil)
	r.changesNothing(404, u, "DELETE", "/api/auth/sessions/"+sessions.Data[0].ID, nil)
	r.changesNothing(403, u, "POST", "/api/auth/password", anyJSON{"current": "another password", "new": password + "!"})
	r.changes(204, u, "POST", "/api/auth/password", anyJSON{"current": password, "new": password + "!"})
	r.changesNothing(403, u, "DELETE", "/api/users/me", anyJSON{"password": password})
	r.changes(204, u, "DELETE", "/api/users/me", anyJSON{"password": password + "!"})
}

func (r *recorder) relations() {
	u := r.p.users(r, 3)
	a, b, c := u[0], u[1], u[2]
	r.changesNothing(404, a, "POST", "/api/friends/requests", anyJSON{"userId": id.New()})
	r.changes(201, a, "POST", "/api/friends/requests", anyJSON{"userId": b.ID})
	r.changesNothing(200, a, "POST", "/api/friends/requests", anyJSON{"userId": b.ID})
	r.changesNothing(404, a, "POST", "/api/friends/requests/"+c.ID+"/accept", nil)
	r.changes(200, b, "POST", "/api/friends/requests/"+a.ID+"/accept", nil)
	r.changesNothing(200, b, "POST", "/api/friends/requests/"+a.ID+"/accept", nil)
	r.changesNothing(200, a, "POST", "/api/friends/requests", anyJSON{"userId": b.ID})
	r.changes(204, a, "DELETE", "/api/friends/"+b.ID, nil)
	r.changesNothing(404, a, "DELETE", "/api/friends/"+b.ID, nil)
	r.changes(201, a, "POST", "/api/friends/requests", anyJSON{"userId": b.ID})
	r.changes(204, b, "DELETE", "/api/friends/requests/"+a.ID, nil)
	r.changesNothing(404, b, "DELETE", "/api/friends/requests/"+a.ID, nil)
	r.changes(204, a, "PUT", "/api/blocks/"+b.ID, nil)
	r.changesNothing(204, a, "PUT", "/api/blocks/"+b.ID, nil)
	r.changesNothing(204, a, "PUT", "/api/blocks/"+id.New(), nil)
	r.changes(204, a, "DELETE", "/api/blocks/"+b.ID, nil)
	r.changesNothing(204, a, "DELETE", "/api/blocks/"+b.ID, nil)
}

func (r *recorder) conversations() {
	u := r.p.users(r, 4)
	owner, member, stranger := u[0], u[1], u[2]
	direct := anyJSON{"type": "direct", "memberIds": []string{member.ID}}
	r.changes(201, owner, "POST", "/api/conversations", direct)
	r.changesNothing(200, owner, "POST", "/api/conversations", direct)
	group := anyJSON{"type": "group", "name": "a group", "memberIds": []string{member.ID}, "clientId": "once"}
	a, _ := r.changes(201, owner, "POST", "/api/conversations", group)
	r.changesNothing(200, owner, "POST", "/api/conversations", group)
	var c conversation
	a.into(r, &c)
	path := "/api/conversations/" + c.ID
	r.changesNothing(403, member, "PATCH", path, anyJSON{"name": "x"})
	r.changesNothing(404, stranger, "PATCH", path, anyJSON{"name": "x"})
	if _, e := r.changes(200, owner, "PATCH", path, anyJSON{"name": "x"}); e.action != "conversation.update" || e.target != "conversation "+c.ID {
		r.Errorf("the entry is %v", e)
	}
	r.changesNothing(412, owner, "PATCH", path, anyJSON{"name": "y", "ifRevision": 1})
	r.changes(200, member, "PATCH", path+"/me", anyJSON{"archived": true, "pinned": true, "mutedUntil": "forever"})
	r.changesNothing(200, member, "PATCH", path+"/me", anyJSON{"archived": true, "pinned": true, "mutedUntil": "forever"})
	r.changes(200, owner, "POST", path+"/members", anyJSON{"userIds": []string{stranger.ID}})
	r.changesNothing(200, owner, "POST", path+"/members", anyJSON{"userIds": []string{stranger.ID}})
	r.changesNothing(404, owner, "POST", path+"/members", anyJSON{"userIds": []string{id.New()}})
	if _, e := r.changes(200, owner, "PATCH", path+"/members/"+member.ID, anyJSON{"role": "admin"}); e.action != "member.role" {
		r.Errorf("the entry is %v", e)
	}
	r.changesNothing(200, owner, "PATCH", path+"/members/"+member.ID, anyJSON{"role": "admin"})
	r.changesNothing(409, owner, "PATCH", path+"/members/"+owner.ID, anyJSON{"role": "admin"}) // the last owner
	r.changesNothing(403, stranger, "DELETE", path+"/members/"+member.ID, nil)
	r.changes(204, owner, "DELETE", path+"/members/"+member.ID, nil)
	r.changesNothing(404, owner, "DELETE", path+"/members/"+member.ID, nil)
	r.changesNothing(403, stranger, "DELETE", path, nil)
	r.changes(204, owner, "DELETE", path, nil)
	r.changesNothing(404, owner, "DELETE", path, nil)
}

func (r *recorder) messages() {
	u := r.p.users(r, 3)
	owner, member, stranger := u[0], u[1], u[2]
	c := r.p.group(r, owner, member)
	path := "/api/conversations/" + c.ID + "/messages"
	draft := anyJSON{"content": "hello", "clientMessageId": "once"}
	a, e := r.changes(201, member, "POST", path, draft)
	var m message
	a.into(r, &m)
	if e.action != "message.create" || e.target != "message "+m.ID {
		r.Errorf("the entry is %v", e)
	}
	r.changesNothing(200, member, "POST", path, draft)
	r.changesNothing(409, member, "POST", path, anyJSON{"content": "other", "clientMessageId": "once"})
	r.changesNothing(404, stranger, "POST", path, draft)
	r.changesNothing(400, member, "POST", path, anyJSON{"content": "hello", "replyToId": id.New()})

	at := "/api/messages/" + m.ID
	r.changes(200, member, "PATCH", at, anyJSON{"content": "hello you"})
	r.changesNothing(412, member, "PATCH", at, anyJSON{"content": "x", "ifRevision": 1})
	r.changesNothing(403, owner, "PATCH", at, anyJSON{"content": "x"})
	r.changes(200, owner, "PUT", at+"/pin", nil)
	r.changesNothing(200, owner, "PUT", at+"/pin", nil)
	r.changes(200, owner, "DELETE", at+"/pin", nil)
	r.changesNothing(200, owner, "DELETE", at+"/pin", nil)
	if _, e := r.changes(200, owner, "PUT", at+"/reactions/x", nil); e.action != "reaction.set" || e.target != "message "+m.ID {
		r.Errorf("the entry is %v", e)
	}
	r.changesNothing(200, owner, "PUT", at+"/reactions/x", nil)
	r.changesNothing(404, stranger, "PUT", at+"/reactions/x", nil)
	r.changes(200, owner, "DELETE", at+"/reactions/x", nil)
	r.changesNothing(200, owner, "DELETE", at+"/reactions/x", nil)
	if _, e := r.changes(204, owner, "DELETE", at, nil); e.action != "message.delete" || e.target != "message "+m.ID {
		r.Errorf("the entry is %v", e)
	}
	r.changesNothing(204, owner, "DELETE", at, nil)
	r.changesNothing(409, member, "PATCH", at, anyJSON{"content": "x"})
}

func (r *recorder) files() {
	u := r.p.register(r)
	png := pngFile(3, 4)
	a, _ := r.changes(201, u, "POST", "/api/uploads", anyJSON{"filename": "a.png", "contentType": "image/png", "size": len(png)})
	var k ticket
	a.into(r, &k)
	r.changesNothing(413, u, "POST", "/api/uploads", anyJSON{"filename": "a.png", "contentType": "image/png", "size": 1 << 40})
	complete := "/api/uploads/" + k.ID + "/complete"
	r.changesNothing(409, u, "POST", complete, nil)
	if status := k.put(r, png); status != 200 {
		r.Fatalf("the storage answers %d", status)
	}
	r.changes(200, u, "POST", complete, nil)
	r.changesNothing(200, u, "POST", complete, nil)
	r.changesNothing(200, u, "POST", "/api/attachments/urls", anyJSON{"ids": []string{k.ID}})
}

// reads are in Postgres for direct conversations. Those of groups are in Redis first: they have their entry, and no transaction.
func (r *recorder) reads() {
	u := r.p.users(r, 3)
	sender, reader, stranger := u[0], u[1], u[2]
	d := r.p.direct(r, sender, reader)
	m := r.p.send(r, sender, d.ID, "hello")
	r.changesNothing(404, stranger, "POST", "/api/messages/"+m.ID+"/read", nil)
	r.changes(204, reader, "POST", "/api/messages/"+m.ID+"/read", nil)
	r.changesNothing(204, reader, "POST", "/api/messages/"+m.ID+"/read", nil)
	m = r.p.send(r, sender, d.ID, "hello")
	r.changes(204, reader, "POST", "/api/conversations/"+d.ID+"/read", anyJSON{"upToMessageId": m.ID})
	r.changesNothing(204, reader, "POST", "/api/conversations/"+d.ID+"/read", anyJSON{"upToMessageId": m.ID})

	g := r.p.group(r, sender, reader)
	first, second, third := r.p.send(r, sender, g.ID, "1"), r.p.send(r, sender, g.ID, "2"), r.p.send(r, sender, g.ID, "3")
	all := anyJSON{"conversations": anyJSON{g.ID: third.ID}}
	for _, x := range []struct {
		path string
		body any
	}{
		{"/api/messages/" + first.ID + "/read", nil},
		{"/api/conversations/" + g.ID + "/read", anyJSON{"upToMessageId": second.ID}},
		{"/api/conversations/read", all},
	} {
		r.changesNothing(404, stranger, "POST", x.path, x.body)
		if _, entries, writes := r.request(204, reader, "POST", x.path, x.body); len(entries) != 1 || len(writes) > 0 {
			r.Errorf("%s has the entries %v, and the transactions %v", x.path, entries, writes)
		}
		r.covers("POST", x.path)
		r.changesNothing(204, reader, "POST", x.path, x.body)
	}
}

func subscriptionOf(t testing.TB) anyJSON {
	t.Helper()
	k, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	return anyJSON{"endpoint": "https://fcm.googleapis.com/fcm/send/x", "keys": anyJSON{"p256dh": encode(k.PublicKey().Bytes()), "auth": encode(make([]byte, 16))}}
}
