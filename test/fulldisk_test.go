package test

import (
	"crypto/rand"
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/testenv"
)

// ledgerOf are the ids of the sends that were acknowledged, and how many were refused.
type ledgerOf struct {
	acknowledged []string
	refused      int
}

// sendLarge sends a message that does not compress. It may be stored or refused with 503 and Retry-After, and nothing else.
func (l *ledgerOf) sendLarge(t *testing.T, p *pod, u user, conversationID string) (stored bool) {
	t.Helper()
	random := make([]byte, 5900)
	_, _ = rand.Read(random)
	a := p.call(t, u.token, "POST", "/api/conversations/"+conversationID+"/messages", map[string]any{"content": base64.StdEncoding.EncodeToString(random)})
	switch {
	case a.status == 201:
		var m message
		a.into(t, &m)
		l.acknowledged = append(l.acknowledged, m.ID)
		return true
	case a.status == 503 && a.code() == "unavailable" && a.header.Get("Retry-After") != "":
		l.refused++
		return false
	}
	t.Fatalf("a send while the disk is full: %d %s", a.status, a.body)
	return false
}

// untilRefused sends until the disk has no room for more.
func (l *ledgerOf) untilRefused(t *testing.T, p *pod, u user, conversationID string) {
	t.Helper()
	for n := 0; l.sendLarge(t, p, u, conversationID); n++ {
		if n == 5000 {
			t.Fatal("the disk is full and takes everything")
		}
	}
}

// check compares what was acknowledged with what is stored.
func (l *ledgerOf) check(t *testing.T, s *system) {
	t.Helper()
	if n := s.count(t, `SELECT count(*) FROM messages WHERE id = ANY ($1::text[]::uuid[])`, l.acknowledged); n != len(l.acknowledged) {
		t.Errorf("%d messages were acknowledged, %d of them are stored", len(l.acknowledged), n)
	}
	t.Logf("%d messages were acknowledged, %d refused", len(l.acknowledged), l.refused)
}

// lines is how often the log has a text.
func lines(p *testenv.Process, text string) int { return strings.Count(p.Logs(), text) }

// The disk with Postgres's data is full: nothing that needs room is written (SQLSTATE 53100). Reads, and reads of groups, go on; the pod stays
// in service; writes are 503 and errors of frames until there is room, then succeed at once. The worker keeps what waits.
func TestAFullDiskOfPostgresData(t *testing.T) {
	t.Parallel()
	disk := testenv.NewDisk(t, 80)
	pg := testenv.PostgresWithDataOn(t, disk)
	s := &system{t: t, pg: pg.URL(), redis: testenv.NewRedis(t)}
	p, worker := s.addPod(), s.addWorker()
	u := p.users(t, 4)
	g := p.group(t, u[0], u[1:]...)
	sock := p.open(t, u[1])
	var sends ledgerOf
	sends.sendLarge(t, p, u[0], g.ID)

	disk.Fill()
	sends.untilRefused(t, p, u[0], g.ID)
	for range 20 {
		sends.sendLarge(t, p, u[0], g.ID)
	}
	frame := sock.ask("message:send", map[string]any{"conversationId": g.ID, "content": "by a socket", "clientMessageId": "c"})
	if frame.Type != "ack" && (frame.Type != "error" || !strings.Contains(string(frame.Data), `"unavailable"`)) {
		t.Errorf("a send by a socket gets %s %s", frame.Type, frame.Data)
	}
	for range 5 {
		p.want(t, 200, u[2].token, "GET", "/api/conversations/"+g.ID+"/messages", nil)
		if status := p.ready(t); status != 200 {
			t.Errorf("the pod serves reads, and its readiness is %d", status)
		}
	}
	last := sends.acknowledged[len(sends.acknowledged)-1]
	for _, reader := range u[1:] {
		p.read(t, reader, last) // Redis has it
	}
	testenv.Eventually(t, time.Minute, func() bool { return metric(t, p.ops, "parley_requests_unavailable_total") >= float64(sends.refused) }, "refusals are counted")
	if n := lines(p.Process, "requests are refused with 503"); n != 1 || !strings.Contains(p.Logs(), "No space left on device") {
		t.Errorf("%d lines say that requests are refused: %s", n, p.Logs())
	}

	disk.Free()
	freed := time.Now()
	testenv.Eventually(t, 30*time.Second, func() bool { return sends.sendLarge(t, p, u[0], g.ID) }, "messages are stored again")
	t.Logf("messages were stored again %s after there was room", time.Since(freed).Round(time.Millisecond))
	s.flushed(t, time.Minute)
	if n := s.rows(t, last); n != len(u)-1 {
		t.Errorf("%d receipts of %d are written", n, len(u)-1)
	}
	if logs := worker.Logs(); strings.Contains(logs, "can't be written") {
		t.Errorf("the worker took what waits for unwritable: %s", logs)
	}
	sends.check(t, s)
	testenv.Eventually(t, time.Minute, func() bool { return lines(p.Process, "requests are served again") == 1 }, "the log says that it is over")
	if !strings.Contains(p.Logs(), "failures=") {
		t.Errorf("the log does not say how many failed: %s", p.Logs())
	}
	if strings.Contains(p.Logs(), "level=ERROR") || strings.Contains(worker.Logs(), "level=ERROR") {
		t.Errorf("a full disk is logged as an error: %s %s", p.Logs(), worker.Logs())
	}
}

// The disk with the write-ahead log is full: Postgres ends, and can't start until there is room. Pods say so, refuse with 503, and serve as soon
// as it is back. Everything that was acknowledged is there.
func TestAFullDiskOfPostgresLog(t *testing.T) {
	t.Parallel()
	disk := testenv.NewDisk(t, 24)
	pg := testenv.PostgresWithLogOn(t, disk)
	s := &system{t: t, pg: pg.URL(), redis: testenv.NewRedis(t)}
	p := s.addPod()
	u := p.users(t, 3)
	g := p.group(t, u[0], u[1:]...)
	var sends ledgerOf
	sends.sendLarge(t, p, u[0], g.ID)

	disk.Fill()
	sends.untilRefused(t, p, u[0], g.ID)
	testenv.Eventually(t, time.Minute, func() bool { sends.sendLarge(t, p, u[0], g.ID); return pg.Gone() && p.ready(t) == 503 }, "postgres ends, and the pod says so")
	for range 20 {
		if sends.sendLarge(t, p, u[0], g.ID) {
			t.Error("a message is stored without a server")
		}
	}
	testenv.Eventually(t, time.Minute, func() bool { return metric(t, p.ops, `parley_dependency_up{dependency="postgres"}`) == 0 }, "the metrics say so")

	disk.Free()
	pg.Start() // as whatever supervises it does
	started := time.Now()
	testenv.Eventually(t, 30*time.Second, func() bool { return sends.sendLarge(t, p, u[0], g.ID) && p.ready(t) == 200 }, "messages are stored again")
	t.Logf("messages were stored again %s after postgres was back", time.Since(started).Round(time.Millisecond))
	sends.check(t, s)
	for _, text := range []string{"requests are served again", "postgres is available again"} {
		testenv.Eventually(t, time.Minute, func() bool { return lines(p.Process, text) == 1 }, "the log says: %s", text)
	}
	for _, text := range []string{"requests are refused with 503", "postgres is unavailable"} {
		if n := lines(p.Process, text); n != 1 {
			t.Errorf("%d lines of the log say: %s", n, text)
		}
	}
	if strings.Contains(p.Logs(), "level=ERROR") {
		t.Errorf("a full disk is logged as an error: %s", p.Logs())
	}
}
