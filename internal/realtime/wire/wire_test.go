package wire_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/realtime/wire"
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
	carl         = "019ab2c3-0000-7000-8000-00000000000c"
	conversation = "019ab2c3-0000-7000-8000-0000000000c0"
	messageID    = "019ab2c3-0000-7000-8000-0000000000d0"
	socketID     = "019ab2c3-0000-7000-8000-0000000000f0"
)

func sample() (m, edited, deleted *chat.Message, members []chat.Member, c *chat.Conversation) {
	m = &chat.Message{
		ID: messageID, ConversationID: conversation, Seq: 42, Revision: 45, SenderID: anna, Content: "Hello <b>Ben</b> & all",
		ClientMessageID: ptr("c-1"), CreatedAt: at("2026-11-23T10:00:00.123456Z"),
	}
	edited = ptr(*m)
	edited.Content, edited.Revision, edited.EditedAt = "Hello Ben", 46, ptr(at("2026-11-23T10:01:00Z"))
	deleted = ptr(*edited)
	deleted.Content, deleted.Revision, deleted.DeletedAt = "", 47, ptr(at("2026-11-23T10:02:00.5Z"))
	members = []chat.Member{
		{User: chat.Profile{ID: anna, Username: "anna", DisplayName: "Anna", AvatarURL: ptr("https://example.com/a.png")}, Role: "owner", JoinedAt: at("2026-11-23T09:00:00.000001Z")},
		{User: chat.Profile{ID: ben, Username: "ben", DisplayName: "Ben"}, Role: "member", JoinedAt: at("2026-11-23T09:00:00.000002Z")},
	}
	c = &chat.Conversation{
		ID: conversation, Type: "group", Name: ptr("Team"), Members: members, MemberCount: 2, Revision: 45, LastMessageID: ptr(messageID),
		LastMessageAt: m.CreatedAt, LastMessage: m, LastSeq: 42, CreatedAt: at("2026-11-23T09:00:00Z"),
	}
	return m, edited, deleted, members, c
}

// events are those of a conversation, by the names of their goldens.
func events() map[string]*event.Event {
	m, edited, deleted, members, c := sample()
	when := m.CreatedAt.UnixMicro()
	promoted := slices.Clone(members[1:])
	promoted[0].Role = "admin"
	traced := event.MessageNew(m)
	traced.TraceParent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	return map[string]*event.Event{
		"message_new":                 event.MessageNew(m),
		"message_new_traced":          traced,
		"message_updated":             event.MessageUpdated(edited, edited.EditedAt.UnixMicro()),
		"message_deleted":             event.MessageDeleted(deleted, deleted.DeletedAt.UnixMicro()),
		"conversation_created":        event.ConversationCreated(c, []string{anna, ben}, when),
		"conversation_updated":        event.ConversationUpdated(c, when),
		"conversation_changed":        event.ConversationChanged(conversation, 46, when),
		"conversation_deleted":        event.ConversationDeleted(conversation, 46, when),
		"conversation_member_added":   event.MemberAdded(c, members[1:], when),
		"conversation_member_removed": event.MemberWasRemoved(conversation, ben, 1, 46, when),
		"conversation_member_updated": event.MemberUpdated(conversation, promoted, 46, when),
		"message_reacted": event.MessageReacted(&event.MessageReactions{
			ConversationID: conversation, MessageID: messageID, Revision: 46, Reactions: []chat.Reaction{{Reaction: "👍", Count: 2}},
			By: []event.ReactedBy{{UserID: ben, Reactions: []string{"👍"}}},
		}, when),
		"conversation_markers":        markersMoved(nil),
		"conversation_markers_except": markersMoved([]string{anna, carl}),
		"typing":                      event.UserTyping(event.Typing{ConversationID: conversation, UserID: anna, Active: true}),
	}
}

func markersMoved(except []string) *event.Event {
	return event.MarkersMoved(event.Markers{ConversationID: conversation, Markers: []event.Marker{
		{UserID: ben, LastReadSeq: 41, ReadAt: ptr(at("2026-11-23T10:00:05Z"))},
	}}, except)
}

func notices() map[string]*event.Notice {
	_, _, _, members, _ := sample()
	return map[string]*event.Notice{
		"conversation_read": event.ReadNotice(anna, socketID, event.ConversationRead{ConversationID: conversation, Marker: chat.Marker{LastReadSeq: 40, UnreadCount: 2}}),
		"state_updated": event.StateNotice(anna, event.StateUpdated{ConversationID: conversation, StateRevision: 731, OwnState: chat.OwnState{
			Marker: chat.Marker{LastReadSeq: 40, UnreadCount: 2}, MentionCount: 1,
		}}),
		"receipt_read":     event.ReceiptNotice(anna, event.ReceiptRead{ConversationID: conversation, MessageID: messageID, UserID: ben, ReadAt: at("2026-11-23T10:00:05Z"), Count: 3}),
		"friend_requested": event.FriendNotice(event.TypeFriendRequested, anna, members[1].User),
		"friend_accepted":  event.FriendNotice(event.TypeFriendAccepted, anna, members[1].User),
		"friend_removed":   event.FriendNotice(event.TypeFriendRemoved, anna, members[1].User),
		"join":             {UserID: anna, Join: &event.Join{ConversationID: conversation, Revision: 45}},
		"related":          {UserID: anna, Related: ben},
		"replaced":         {UserID: anna, Replaced: []string{socketID}},
		"user_updated":     event.ProfileNotice(event.ProfileChange{User: members[1].User, At: 1_764_500_000_000_000}),
	}
}

// frames are the server's frames, as clients get them.
func frames(t *testing.T) map[string]wire.Frame {
	t.Helper()
	m, _, _, _, _ := sample()
	out := map[string]wire.Frame{
		"ready": wire.NewFrame(event.TypeReady, event.Ready{
			UserID: anna, DeviceID: "phone", SessionID: ptr("019ab2c3-0000-7000-8000-0000000000e0"), HeartbeatSeconds: 25, ServerTime: at("2026-11-23T10:00:00Z"), Epoch: "5f0c2a9be1d34478",
		}),
		"resync":           wire.NewFrame(event.TypeResync, event.Resync{Epoch: "5f0c2a9be1d34478", WithinSeconds: 30}),
		"ack":              wire.NewReply(event.TypeAck, "7", m),
		"ping":             wire.NewFrame(event.TypePing, nil),
		"pong":             wire.NewReply(event.TypePong, "8", nil),
		"presence_online":  wire.NewFrame(event.TypePresenceOnline, event.PresenceChange{UserID: ben}),
		"presence_offline": wire.NewFrame(event.TypePresenceOffline, event.PresenceChange{UserID: ben, LastSeenAt: ptr(at("2026-11-23T10:05:00.25Z"))}),
	}
	for name, e := range events() {
		switch x := wire.Seal(e); {
		case name == "message_new_traced", name == "conversation_markers_except":
		case e.Type == event.TypeConversationCreated:
			out[name] = x.Welcome
		default:
			out[name] = x.Frame
		}
	}
	for name, n := range notices() {
		if n.Type != "" {
			x, err := wire.DecodeNotice(n.UserID, wire.EncodeNotice(n, ""))
			if err != nil {
				t.Fatal(name, err)
			}
			out[name] = x.Frame
		}
	}
	return out
}

// payload is a text frame's, whose header must say its length.
func payload(t *testing.T, f wire.Frame) []byte {
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

// golden compares b with a file of testdata, or writes it.
func golden(t *testing.T, file string, b []byte) {
	t.Helper()
	file = filepath.Join("testdata", file)
	if *update {
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b, want) {
		t.Errorf("%s is\n%s\nwant\n%s", file, b, want)
	}
}

func TestFramesAreAsTheirGoldens(t *testing.T) {
	t.Parallel()
	for name, f := range frames(t) {
		var b bytes.Buffer
		if err := json.Indent(&b, payload(t, f), "", "  "); err != nil {
			t.Fatal(name, err)
		}
		b.WriteByte('\n')
		golden(t, filepath.Join("frames", name+".json"), b.Bytes())
	}
}

// testdata/redis has what the first version wrote to Redis (commit dc26b3d). Its pods run beside this version's, so this version
// writes the same bytes and reads them. A golden of a type that the first version had never changes.
func TestOlderPodsAreUnderstood(t *testing.T) {
	t.Parallel()
	for name, e := range events() {
		file := filepath.Join("redis", name+".event")
		golden(t, file, wire.Encode(e, ""))
		x := wire.Seal(e)
		if !bytes.Equal(x.Encode(), wire.Encode(e, "")) {
			t.Errorf("%s is encoded in two ways", name)
		}
		old, err := os.ReadFile(filepath.Join("testdata", file))
		if err != nil {
			t.Fatal(err)
		}
		got, err := wire.Decode(e.ConversationID, old)
		if err != nil || !bytes.Equal(got.Encode(), old) || !bytes.Equal(got.Frame, x.Frame) || !bytes.Equal(got.Welcome, x.Welcome) {
			t.Errorf("%s comes back as %+v, %v", name, got, err)
		}
	}
	for name, n := range notices() {
		if strings.HasPrefix(name, "friend_") && name != "friend_requested" {
			continue
		}
		file := filepath.Join("redis", name+".notice")
		golden(t, file, wire.EncodeNotice(n, ""))
		old, err := os.ReadFile(filepath.Join("testdata", file))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := wire.DecodeNotice(n.UserID, old); err != nil || !bytes.Equal(got.Encode(), old) {
			t.Errorf("%s comes back as %+v, %v", name, got, err)
		}
	}
}

// A type that this version doesn't know, of a newer pod, is passed on as a change to ask for, and routed as that pod wants it.
func TestATypeOfANewerPodIsAChange(t *testing.T) {
	t.Parallel()
	const head = `{"type":"message:translated","revision":9,"at":3,"removed":"` + ben + `","n":4,"color":"red"}`
	x, err := wire.Decode(conversation, []byte(head+"\nnews"))
	if err != nil {
		t.Fatal(err)
	}
	want := wire.NewFrame(event.TypeConversationChanged, event.ConversationMoved{ConversationID: conversation, Revision: 9})
	if x.Type != event.TypeConversationChanged || !bytes.Equal(x.Frame, want) || !slices.Equal(x.Removed, []string{ben}) || x.Revision != 9 {
		t.Errorf("it is %+v", x)
	}
}

// A pod of the first version would detach only one of several users who are removed at once. It must not be able to read the
// envelope, so that it asks Postgres.
func TestAnOlderPodDoesNotReadARemovalOfSeveral(t *testing.T) {
	t.Parallel()
	e := event.MemberWasRemoved(conversation, ben, 1, 46, 1)
	e.Removed = []string{ben, anna}
	b := wire.Encode(e, "")
	var old struct {
		N       int
		Removed string
	}
	if err := json.Unmarshal(b[:bytes.IndexByte(b, '\n')], &old); err != nil || old.N >= 0 || old.Removed != "" {
		t.Errorf("an older pod reads %+v, %v", old, err)
	}
	x, err := wire.Decode(conversation, b)
	if err != nil || !slices.Equal(x.Removed, e.Removed) || !bytes.Equal(x.Frame, wire.Seal(e).Frame) {
		t.Errorf("it comes back as %+v, %v", x, err)
	}
}

// A pod that does not know ExceptMany would deliver the frame to the excepted users. It must not be able to read the envelope,
// whichever of the older decoders it has.
func TestAnOlderPodDoesNotReadWhatExceptsSeveral(t *testing.T) {
	t.Parallel()
	e := markersMoved([]string{anna, carl})
	b := wire.Encode(e, "")
	var old struct{ N int }
	if err := json.Unmarshal(b[:bytes.IndexByte(b, '\n')], &old); err != nil || old.N != -2 {
		t.Errorf("an older pod reads %+v, %v", old, err)
	}
	x, err := wire.Decode(conversation, b)
	if err != nil || !slices.Equal(x.ExceptMany, e.ExceptMany) || !bytes.Equal(x.Frame, wire.Seal(e).Frame) {
		t.Errorf("it comes back as %+v, %v", x, err)
	}
	one, err := wire.Decode(conversation, wire.Encode(markersMoved([]string{anna}), ""))
	if err != nil || one.Except != anna || len(one.ExceptMany) != 0 || len(one.Frame) == 0 {
		t.Errorf("with one exception it is %+v, %v", one, err)
	}
}

func TestHeadersOfEveryLength(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]string{20: "\x81", 300: "\x81\x7e", 70_000: "\x81\x7f"} {
		f := wire.NewFrame("x", strings.Repeat("a", n))
		if !strings.HasPrefix(string(f), want) {
			t.Errorf("a payload of %d and more starts with % x", n, []byte(f[:2]))
		}
		var body struct{ Data string }
		if err := json.Unmarshal(f[bytes.IndexByte(f, '{'):], &body); err != nil || len(body.Data) != n {
			t.Errorf("a payload of %d: %v", n, err)
		}
		e := &event.Event{Type: event.TypeMessageNew, Revision: 1, Data: strings.Repeat("a", n)}
		if !bytes.Equal(wire.Encode(e, ""), wire.Seal(e).Encode()) {
			t.Errorf("an event of %d is encoded in two ways", n)
		}
	}
}

func TestWhatIsNoEnvelopeIsRefused(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"", "no line", "{}", "not json\nx", `{"n":99}` + "\nx", `{"n":-1}` + "\nx", `{"n":-1,"len":9}` + "\nx", `{"n":-2}` + "\nx", `{"n":-2,"len":9}` + "\nx", `{"n":-3,"len":1}` + "\nx"} {
		if _, err := wire.Decode(conversation, []byte(bad)); err == nil {
			t.Errorf("%q is an envelope", bad)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte("{\"type\":\"message:new\",\"revision\":3,\"n\":1}\nx"))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := wire.Decode(conversation, b)
		if err != nil {
			return
		}
		if _, err := wire.Decode(conversation, e.Encode()); err != nil {
			t.Fatalf("%q comes back as %q: %v", b, e.Encode(), err)
		}
	})
}

// The protocol's page shows every golden, as it is.
func TestTheDocumentationShowsTheGoldens(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "events.md"))
	if err != nil {
		t.Fatal(err)
	}
	for name := range frames(t) {
		want, err := os.ReadFile(filepath.Join("testdata", "frames", name+".json"))
		if err != nil {
			t.Fatal(err)
		}
		if block := "<!-- golden: " + name + " -->\n```json\n" + string(want) + "```\n"; !strings.Contains(string(page), block) {
			t.Errorf("docs/events.md does not show %s as\n%s", name, block)
		}
	}
}
