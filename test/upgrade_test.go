package test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/testenv"
)

// mixed is a system in which pods of the older version and of this one run together, as during an upgrade, with every feature of this
// version configured and in use.
type mixed struct {
	*followed
	now, old  *pod
	users     []user
	groupID   string
	revision  int64             // of the group when it was made
	reactions map[string]int64  // by message, those that were acknowledged
	files     map[string]string // by message, the file that was sent with it
	deleted   []string          // messages with files that the older version deleted
	pinned    []string          // messages, the last one first
	mentions  int               // of the second user
}

// A rolling upgrade with every feature in use: while pods of the version before run beside those of this one, people react, mention, pin,
// mute, send files, and get webhooks and pushes, and either version edits and deletes what the other wrote. Pods of both die in the middle.
// What was acknowledged is there in the end, sockets of both versions heard each revision once and in order, and so did the webhook.
func TestAnUpgradeWithEverythingInUse(t *testing.T) {
	t.Parallel()
	if testing.Short() || testenv.Engine() != "" {
		t.Skip("builds another version")
	}
	var pushes atomic.Int64
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		pushes.Add(1)
		w.WriteHeader(http.StatusCreated)
	}))
	t.Cleanup(service.Close)
	m := mix(t)
	m.now.subscribe(t, m.users[2], service.URL+"/browser")
	watches := map[string]*seen{
		"a socket of the older version": watch(t, "older", m.old.open(t, m.users[1]), m.revision),
		"a socket of this version":      watch(t, "this", m.now.open(t, m.users[2]), m.revision),
	}
	for round := range 3 {
		m.use(t, round)
		m.killOneOfEach(t, round)
	}
	checkWatches(t, m.system, m.groupID, watches)
	m.check(t)
	var revision int
	if err := m.db.QueryRow(`SELECT revision FROM conversations WHERE id = $1`, m.groupID).Scan(&revision); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, time.Minute, func() bool { return m.hook.reached(m.groupID) == revision }, "the webhook has revision %d", revision)
	testenv.Eventually(t, time.Minute, func() bool { return pushes.Load() > 0 }, "a push comes")
}

// mix starts it, with a group of four whose owner is the first.
func mix(t *testing.T) *mixed {
	t.Helper()
	s := &system{t: t, pg: testenv.Postgres(t), redis: testenv.NewRedis(t), extra: slices.Concat(testenv.Storage(t).Settings(), pushSettings(t))}
	m := &mixed{followed: follow(t, s, 2, 0), reactions: map[string]int64{}, files: map[string]string{}}
	m.now, m.old = s.pods[0], s.launchOlder(t)
	m.old.older = true
	s.launchOlderBeside(t, "presence-watcher")
	s.launchOlderBeside(t, "receipt-worker")
	s.addBeside("presence-watcher")
	s.addBeside("receipt-worker")
	m.users = m.now.users(t, 4)
	g := m.now.group(t, m.users[0], m.users[1:]...)
	m.groupID, m.revision = g.ID, g.Revision
	return m
}

// sendWith sends as the first user with members of the body besides, and returns the message.
func (m *mixed) sendWith(t *testing.T, p *pod, body map[string]any) (sent message) {
	t.Helper()
	body["content"] = "sent during an upgrade"
	p.want(t, 201, m.users[0].token, "POST", "/api/conversations/"+m.groupID+"/messages", body).into(t, &sent)
	return sent
}

// use uses everything once, on both versions.
func (m *mixed) use(t *testing.T, round int) {
	t.Helper()
	u, now, old := m.users, m.now, m.old
	plain := m.sendWith(t, old, map[string]any{})
	for _, who := range u {
		now.want(t, 200, who.token, "PUT", "/api/messages/"+plain.ID+"/reactions/"+url.PathEscape("👍"), nil)
		m.reactions[plain.ID]++
	}
	now.want(t, 200, u[3].token, "DELETE", "/api/messages/"+plain.ID+"/reactions/"+url.PathEscape("👍"), nil)
	m.reactions[plain.ID]--
	old.want(t, 200, u[0].token, "PATCH", "/api/messages/"+plain.ID, map[string]any{"content": "edited by the older version"})
	now.want(t, 200, u[0].token, "PUT", "/api/messages/"+plain.ID+"/pin", nil)
	m.pinned = append([]string{plain.ID}, m.pinned...)

	m.sendWith(t, now, map[string]any{"mentions": map[string]any{"userIds": []string{u[1].ID}}, "metadata": map[string]any{"round": round}})
	m.mentions++
	for _, deletedByOld := range []bool{false, true} {
		file := now.upload(t, u[0], "a.png", "image/png", pngFile(10, 10))
		sent := m.sendWith(t, now, map[string]any{"attachments": []string{file}})
		if deletedByOld {
			old.want(t, 204, u[0].token, "DELETE", "/api/messages/"+sent.ID, nil)
			m.deleted = append(m.deleted, file)
		} else {
			m.files[sent.ID] = file
		}
	}
	until := time.Now().Add(time.Duration(round+1) * time.Hour).UTC().Format(time.RFC3339)
	now.want(t, 200, u[1].token, "PATCH", "/api/conversations/"+m.groupID+"/me", map[string]any{"mutedUntil": until, "pinned": round%2 == 0})
	old.read(t, u[3], plain.ID)
	old.want(t, 200, u[0].token, "PATCH", "/api/conversations/"+m.groupID, map[string]any{"name": fmt.Sprint("round ", round)})
}

// killOneOfEach kills a pod of each version, and a dispatcher, while they work, and replaces the dispatcher.
func (m *mixed) killOneOfEach(t *testing.T, round int) {
	t.Helper()
	for n, p := range []*pod{m.launchOlder(t), m.addPod()} {
		p.older = true // its answers were checked elsewhere
		last := m.sendWith(t, p, map[string]any{"clientMessageId": fmt.Sprint("last ", round, n)})
		p.Kill()
		var again message
		if m.now.want(t, 200, m.users[0].token, "POST", "/api/conversations/"+m.groupID+"/messages", map[string]any{
			"content": "sent during an upgrade", "clientMessageId": fmt.Sprint("last ", round, n),
		}).into(t, &again); again.ID != last.ID {
			t.Errorf("a repeated send is another message")
		}
	}
	i := round % len(m.dispatchers)
	m.dispatchers[i].Kill()
	m.run(i)
}

// check compares what was acknowledged with what this version shows.
func (m *mixed) check(t *testing.T) {
	t.Helper()
	u, now := m.users, m.now
	for id, want := range m.reactions {
		var got struct {
			Content   string
			Reactions []struct{ Count int64 }
			PinnedAt  *string
		}
		now.want(t, 200, u[0].token, "GET", "/api/messages/"+id, nil).into(t, &got)
		if len(got.Reactions) != 1 || got.Reactions[0].Count != want || got.PinnedAt == nil || got.Content != "edited by the older version" {
			t.Errorf("a message that both versions changed is %+v", got)
		}
	}
	var pins struct{ Data []struct{ ID string } }
	now.want(t, 200, u[3].token, "GET", "/api/conversations/"+m.groupID+"/pins", nil).into(t, &pins)
	var ids []string
	for _, p := range pins.Data {
		ids = append(ids, p.ID)
	}
	if !slices.Equal(ids, m.pinned) {
		t.Errorf("pinned is %v, want %v", ids, m.pinned)
	}
	for id, file := range m.files {
		var got struct{ Attachments []struct{ ID string } }
		now.want(t, 200, u[1].token, "GET", "/api/messages/"+id, nil).into(t, &got)
		if len(got.Attachments) != 1 || got.Attachments[0].ID != file || now.links(t, u[1], file) != file {
			t.Errorf("a message with a file is %+v", got)
		}
	}
	if left := now.links(t, u[1], m.deleted...); left != "" {
		t.Errorf("the older version deleted their messages, and these files can be had: %s", left)
	}
	var c struct {
		MutedUntil, PinnedAt *string
		MentionCount         int
	}
	now.want(t, 200, u[1].token, "GET", "/api/conversations/"+m.groupID, nil).into(t, &c)
	if c.MutedUntil == nil || c.PinnedAt == nil || c.MentionCount != m.mentions {
		t.Errorf("the reader's state is %+v, with %d mentions", c, m.mentions)
	}
	var other struct{ Data []message }
	m.old.want(t, 200, u[3].token, "GET", "/api/conversations/"+m.groupID+"/messages?limit=100", nil).into(t, &other)
	if n := m.count(t, `SELECT count(*) FROM messages WHERE conversation_id = $1`, m.groupID); len(other.Data) != n {
		t.Errorf("the older version shows %d messages of %d", len(other.Data), n)
	}
}
