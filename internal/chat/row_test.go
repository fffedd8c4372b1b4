package chat_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/testenv"
)

// Every column is read into its own field: the JSON that clients get has the row's values under their names, and none of a feature that
// the row does not use.
func TestRowsAreReadIntoTheirFields(t *testing.T) {
	t.Parallel()
	db, ctx := testenv.Open(t, postgres.Config{URL: testenv.Postgres(t), MaxConns: 2}).SQL, t.Context()
	user, conversation, plain, rich := id.New(), id.New(), id.New(), id.New()
	exec := func(query string, args ...any) {
		t.Helper()
		if _, err := db.ExecContext(ctx, query, args...); err != nil {
			t.Fatal(err)
		}
	}
	exec(`INSERT INTO users (id, username, display_name, avatar_url, password_hash, created_at, presence_sharing, read_receipts_enabled)
		VALUES ($1, 'ada', 'Ada L.', 'https://a', '!', '2026-01-01Z', 'friends', false)`, user)
	exec(`INSERT INTO conversations (id, type, name, last_message_at, last_seq, revision, member_count, created_at, description, avatar_url, metadata, posting, external_id)
		VALUES ($1, 'group', 'name', '2026-01-03Z', 4, 7, 3, '2026-01-02Z', 'about', 'https://c', '{"a": 1}', 'admins', 'ext')`, conversation)
	exec(`INSERT INTO conversation_members (conversation_id, user_id, role, joined_at) VALUES ($1, $2, 'admin', '2026-01-04Z')`, conversation, user)
	exec(`INSERT INTO messages (id, conversation_id, seq, revision, sender_id, content, client_message_id, created_at)
		VALUES ($1, $2, 1, 2, $3, 'plain', 'mine', '2026-01-05Z')`, plain, conversation, user)
	exec(`INSERT INTO messages (id, conversation_id, seq, revision, sender_id, content, reply_to_id, created_at, edited_at, mention_ids, mention_all, metadata)
		VALUES ($1, $2, 2, 3, $3, 'rich', $4, '2026-01-05Z', '2026-01-06Z', ARRAY[$3::uuid], true, '{"b": 2}')`, rich, conversation, user, plain)

	has := func(v any, want ...string) string {
		t.Helper()
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range want {
			if !strings.Contains(string(b), w) {
				t.Errorf("there is no %s in %s", w, b)
			}
		}
		return string(b)
	}
	profile := []string{`"id":"` + user + `"`, `"username":"ada"`, `"displayName":"Ada L."`, `"avatarUrl":"https://a"`}
	var p chat.Profile
	if err := chat.ScanProfile(db.QueryRowContext(ctx, `SELECT id, username, display_name, avatar_url FROM users`), &p); err != nil {
		t.Fatal(err)
	}
	has(p, profile...)
	var own chat.Own
	var more int
	if err := chat.ScanOwn(db.QueryRowContext(ctx, `SELECT `+chat.OwnColumns+`, 5 FROM users u`), &own, &more); err != nil || more != 5 {
		t.Fatal(more, err)
	}
	has(own, append(profile, `"createdAt":"2026-01-01T00:00:00.000000Z"`, `"presenceSharing":"friends"`, `"readReceiptsEnabled":false`)...)
	var member chat.Member
	if err := chat.ScanMember(db.QueryRowContext(ctx, `SELECT `+chat.MemberColumns+` FROM conversation_members m JOIN users u ON u.id = m.user_id`), &member); err != nil {
		t.Fatal(err)
	}
	has(member, append(profile, `"role":"admin"`, `"joinedAt":"2026-01-04T00:00:00.000000Z"`)...)
	var c chat.Conversation
	if err := chat.ScanConversation(db.QueryRowContext(ctx, `SELECT `+chat.ConversationColumns+` FROM conversations c`), &c); err != nil {
		t.Fatal(err)
	}
	has(c, `"type":"group"`, `"name":"name"`, `"memberCount":3`, `"revision":7`, `"lastSeq":4`, `"lastMessageAt":"2026-01-03T00:00:00.000000Z"`,
		`"createdAt":"2026-01-02T00:00:00.000000Z"`, `"description":"about"`, `"avatarUrl":"https://c"`, `"metadata":{"a":1}`, `"posting":"admins"`, `"externalId":"ext"`)

	message := func(messageID string) (m chat.Message) {
		t.Helper()
		if err := chat.ScanMessage(db.QueryRowContext(ctx, `SELECT `+chat.MessageColumns+` FROM messages m WHERE m.id = $1`, messageID), &m); err != nil {
			t.Fatal(err)
		}
		return m
	}
	text := has(message(plain), `"seq":1`, `"revision":2`, `"content":"plain"`, `"clientMessageId":"mine"`, `"senderId":"`+user+`"`, `"editedAt":null`)
	for _, feature := range []string{"metadata", "mentions", "reactions", "attachments", "pinnedAt"} {
		if strings.Contains(text, feature) {
			t.Errorf("a plain message has %s: %s", feature, text)
		}
	}
	has(message(rich), `"replyToId":"`+plain+`"`, `"editedAt":"2026-01-06T00:00:00.000000Z"`, `"mentions":{"userIds":["`+user+`"],"all":true}`, `"b"`)
	exec(`UPDATE messages SET metadata = NULL WHERE id = $1`, rich)
	if text = has(message(rich), `"mentions"`); strings.Contains(text, "metadata") {
		t.Errorf("a message without metadata has some: %s", text)
	}
}

// broken is a row whose values can't be read, or whose extras are not those of a message.
type broken struct{ err error }

func (b broken) Scan(dest ...any) error {
	*dest[len(dest)-1].(*[]byte) = []byte(`{"reactions": 5}`) //nolint:forcetypeassert // the extras
	return b.err
}

func TestARowThatCannotBeReadIsAnError(t *testing.T) {
	t.Parallel()
	var m chat.Message
	reason := errors.New("the connection broke")
	if err := chat.ScanMessage(broken{reason}, &m); !errors.Is(err, reason) {
		t.Errorf("got %v", err)
	}
	if err := chat.ScanMessage(broken{}, &m); err == nil {
		t.Error("extras of another form are read")
	}
}

// The marker of a user who does not share receipts is null, not zero.
func TestAPeersMarkerIsASeqOrNull(t *testing.T) {
	t.Parallel()
	seq := int64(5)
	for want, p := range map[string]chat.PeerMarker{"5": {Seq: &seq}, "null": {}} {
		if b, err := json.Marshal(p); err != nil || string(b) != want {
			t.Errorf("got %s, want %s, %v", b, want, err)
		}
	}
}
