package event_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/timestamp"
)

var update = flag.Bool("update", false, "write the goldens")

func at(s string) timestamp.Time {
	v, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		panic(err)
	}
	return timestamp.Time{Time: v}
}

func ptr[T any](v T) *T { return &v }

const (
	anna         = "019ab2c3-0000-7000-8000-00000000000a"
	ben          = "019ab2c3-0000-7000-8000-00000000000b"
	conversation = "019ab2c3-0000-7000-8000-0000000000c0"
	messageID    = "019ab2c3-0000-7000-8000-0000000000d0"
)

// frames are the server's frames, as clients get them.
func frames() map[string]event.Frame {
	m := &event.Message{
		ID: messageID, ConversationID: conversation, Seq: 42, Revision: 45, SenderID: anna, Content: "Hello <b>Ben</b> & all",
		ClientMessageID: ptr("c-1"), CreatedAt: at("2026-11-23T10:00:00.123456Z"),
	}
	edited := *m
	edited.Content, edited.Revision, edited.EditedAt = "Hello Ben", 46, ptr(at("2026-11-23T10:01:00Z"))
	deleted := edited
	deleted.Content, deleted.Revision, deleted.DeletedAt = "", 47, ptr(at("2026-11-23T10:02:00.5Z"))
	members := []event.Member{
		{User: event.User{ID: anna, Username: "anna", DisplayName: "Anna", AvatarURL: ptr("https://example.com/a.png")}, Role: "owner", JoinedAt: at("2026-11-23T09:00:00.000001Z")},
		{User: event.User{ID: ben, Username: "ben", DisplayName: "Ben"}, Role: "member", JoinedAt: at("2026-11-23T09:00:00.000002Z")},
	}
	c := &event.Conversation{
		ID: conversation, Type: "group", Name: ptr("Team"), Members: members, MemberCount: 2, Revision: 45, LastMessageID: ptr(messageID),
		LastMessageAt: m.CreatedAt, LastMessage: m, LastSeq: 42, CreatedAt: at("2026-11-23T09:00:00Z"),
	}
	when := m.CreatedAt.UnixMicro()
	return map[string]event.Frame{
		"ready": event.NewFrame(event.TypeReady, event.Ready{
			UserID: anna, DeviceID: "phone", SessionID: "019ab2c3-0000-7000-8000-0000000000e0", HeartbeatSeconds: 25, ServerTime: at("2026-11-23T10:00:00Z"),
		}),
		"ack":                         event.NewReply(event.TypeAck, "7", m),
		"ping":                        event.NewFrame(event.TypePing, nil),
		"pong":                        event.NewReply(event.TypePong, "8", nil),
		"message_new":                 event.MessageNew(m).Frame,
		"message_updated":             event.MessageUpdated(&edited).Frame,
		"message_deleted":             event.MessageDeleted(&deleted).Frame,
		"conversation_created":        event.ConversationCreated(c, []string{anna, ben}, when).Welcome,
		"conversation_updated":        event.ConversationUpdated(c, when).Frame,
		"conversation_member_added":   event.MemberAdded(c, members[1:], when).Frame,
		"conversation_member_removed": event.MemberWasRemoved(conversation, ben, 1, 46, when).Frame,
		"conversation_read":           event.ReadNotice(anna, "", event.ConversationRead{ConversationID: conversation, Marker: event.Marker{LastReadSeq: 40, UnreadCount: 2}}).Frame,
		"receipt_read":                event.ReceiptNotice(anna, event.ReceiptRead{ConversationID: conversation, MessageID: messageID, UserID: ben, ReadAt: at("2026-11-23T10:00:05Z"), Count: 3}).Frame,
		"presence_online":             event.PresenceOnline(ben),
		"presence_offline":            event.PresenceOffline(ben, ptr(at("2026-11-23T10:05:00.25Z"))),
		"friend_requested":            event.FriendNotice(event.TypeFriendRequested, anna, members[1].User).Frame,
		"friend_accepted":             event.FriendNotice(event.TypeFriendAccepted, anna, members[1].User).Frame,
		"friend_removed":              event.FriendNotice(event.TypeFriendRemoved, anna, members[1].User).Frame,
		"typing":                      event.UserTyping(event.Typing{ConversationID: conversation, UserID: anna, Active: true}).Frame,
	}
}

// payload is a text frame's, whose header must say its length.
func payload(t *testing.T, f event.Frame) []byte {
	t.Helper()
	n, header := int(f[1]), 2
	if n == 126 {
		n, header = int(f[2])<<8|int(f[3]), 4
	}
	if f[0] != 0x81 || len(f) != header+n {
		t.Fatalf("a frame of %d bytes starts with % x", len(f), f[:4])
	}
	return f[header:]
}

func TestFramesAreAsTheirGoldens(t *testing.T) {
	t.Parallel()
	for name, f := range frames() {
		var b bytes.Buffer
		if err := json.Indent(&b, payload(t, f), "", "  "); err != nil {
			t.Fatal(name, err)
		}
		b.WriteByte('\n')
		file := filepath.Join("testdata", name+".json")
		if *update {
			if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(b.Bytes(), want) {
			t.Errorf("%s is\n%s\nwant\n%s", name, b.Bytes(), want)
		}
	}
}

func TestHeadersOfEveryLength(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]string{20: "\x81", 300: "\x81\x7e", 70_000: "\x81\x7f"} {
		f := event.NewFrame("x", strings.Repeat("a", n))
		if !strings.HasPrefix(string(f), want) {
			t.Errorf("a payload of %d and more starts with % x", n, []byte(f[:2]))
		}
		var body struct{ Data string }
		if err := json.Unmarshal(f[bytes.IndexByte(f, '{'):], &body); err != nil || len(body.Data) != n {
			t.Errorf("a payload of %d: %v", n, err)
		}
	}
}

func TestEnvelopesComeBack(t *testing.T) {
	t.Parallel()
	e := &event.Envelope{
		ConversationID: conversation, Type: event.TypeMemberAdded, Revision: 7, CommittedAt: 12, Added: []string{anna}, Removed: ben, Except: "x",
		Frame: event.Frame("frame\nwith a line"), Welcome: event.Frame("welcome"),
	}
	got, err := event.DecodeEnvelope(conversation, e.Encode())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Encode(), e.Encode()) || string(got.Frame) != string(e.Frame) || string(got.Welcome) != "welcome" || got.Added[0] != anna {
		t.Errorf("%+v came back as %+v", e, got)
	}
	n := &event.Notice{UserID: anna, Type: "t", ExceptSocket: "s", Join: &event.Join{ConversationID: conversation, Revision: 3}, Frame: event.Frame("f")}
	back, err := event.DecodeNotice(anna, n.Encode())
	if err != nil || !bytes.Equal(back.Encode(), n.Encode()) || string(back.Frame) != "f" || *back.Join != *n.Join {
		t.Errorf("%+v came back as %+v, %v", n, back, err)
	}
	for _, bad := range []string{"", "no line", "{}", "not json\nx", `{"n":99}` + "\nx", `{"n":-1}` + "\nx"} {
		if _, err := event.DecodeEnvelope(conversation, []byte(bad)); err == nil {
			t.Errorf("%q is an envelope", bad)
		}
	}
}

func FuzzDecodeEnvelope(f *testing.F) {
	f.Add([]byte("{\"type\":\"message:new\",\"revision\":3,\"n\":1}\nx"))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := event.DecodeEnvelope(conversation, b)
		if err != nil {
			return
		}
		if _, err := event.DecodeEnvelope(conversation, e.Encode()); err != nil {
			t.Fatalf("%q comes back as %q: %v", b, e.Encode(), err)
		}
	})
}

// The protocol's page shows every golden, as it is.
func TestTheDocumentationShowsTheGoldens(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "events.md"))
	if err != nil {
		t.Fatal(err)
	}
	for name := range frames() {
		want, err := os.ReadFile(filepath.Join("testdata", name+".json"))
		if err != nil {
			t.Fatal(err)
		}
		if block := "<!-- golden: " + name + " -->\n```json\n" + string(want) + "```\n"; !strings.Contains(string(page), block) {
			t.Errorf("docs/events.md does not show %s as\n%s", name, block)
		}
	}
}
