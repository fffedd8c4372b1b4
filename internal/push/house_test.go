package push

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"

	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/conversation"
	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/message"
	"github.com/parley-chat/parley/internal/outbound"
	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/receipt"
	"github.com/parley-chat/parley/internal/testenv"
)

type nothing struct{}

func (nothing) Publish(...*event.Event) {}
func (nothing) Notify(*event.Notice)    {}

// house is everything but the edge: Postgres, Redis, a push service, and the parts of an api and a dispatcher.
type house struct {
	t        *testing.T
	db       *postgres.DB
	redis    testenv.RedisEngine
	rdb      redis.UniversalClient
	messages *message.Service
	groups   *conversation.Service
	devices  *Service
	metrics  *Metrics
	service  *pushService
	private  string
	users    []string
}

const testDelay = 300 * time.Millisecond

func newHouse(t *testing.T) *house {
	t.Helper()
	db, log := openDB(t), slog.New(slog.DiscardHandler)
	server := testenv.NewRedis(t)
	h := &house{t: t, db: db, redis: server, rdb: server.Client(t), devices: newTestService(db), users: testenv.Users(t, db.SQL, 4)}
	store := message.NewStore(db)
	committer := message.NewCommitter(store, nothing{}, nil, log, message.NewMetrics(prometheus.NewRegistry()))
	runPart(t, committer.Run)
	h.messages = message.NewService(db, store, committer, nil, nothing{})
	conversations := conversation.NewStore(db, store)
	pending := receipt.NewPending(h.rdb)
	h.groups = conversation.NewService(db, conversations, pending, nothing{}, nothing{})
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	h.private = base64.RawURLEncoding.EncodeToString(key.Bytes())
	h.service = newPushService(t, base64.RawURLEncoding.EncodeToString(key.PublicKey().Bytes()))
	h.metrics = NewMetrics(prometheus.NewRegistry())
	return h
}

// run runs a dispatcher's parts, with further providers.
func (h *house) run(more map[string]Provider) {
	h.t.Helper()
	guard := &outbound.Guard{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
	web, err := NewWebPush(h.private, "mailto:ops@example.com", guard)
	if err != nil {
		h.t.Fatal(err)
	}
	providers := map[string]Provider{ProviderWebPush: web}
	for k, v := range more {
		providers[k] = v
	}
	log := slog.New(slog.DiscardHandler)
	pending := receipt.NewPending(h.rdb)
	contents := Contents{Unread: func(ctx context.Context, userID string) (Unread, error) {
		u, err := h.groups.Unread(ctx, userID, false)
		return Unread{u.Messages, u.Mentions}, err
	}}
	runPart(h.t, NewDecider(testDelay, h.db.SQL, pending, NewWatch(h.rdb), contents, h.metrics, func(float64) {}, log).Run)
	runPart(h.t, NewSender(h.db.SQL, providers, contents, h.metrics, log).Run)
	h.t.Cleanup(http.DefaultTransport.(*http.Transport).CloseIdleConnections)
	h.t.Cleanup(web.(*webPush).client.CloseIdleConnections)
}

func (h *house) group(users ...string) string {
	h.t.Helper()
	name := "Team"
	c, _, err := h.groups.Create(h.t.Context(), users[0], &conversation.Creation{Type: "group", MemberIDs: users[1:], Name: &name})
	if err != nil {
		h.t.Fatal(err)
	}
	return c.ID
}

func (h *house) direct(a, b string) string {
	h.t.Helper()
	c, _, err := h.groups.Create(h.t.Context(), a, &conversation.Creation{Type: "direct", MemberIDs: []string{b}})
	if err != nil {
		h.t.Fatal(err)
	}
	return c.ID
}

func (h *house) send(conversationID, from, content string, mentioned ...string) chat.Message {
	h.t.Helper()
	d := message.Draft{Content: content}
	if mentioned != nil {
		d.Mentions = &message.MentionList{UserIDs: mentioned}
	}
	m, _, err := h.messages.Send(h.t.Context(), conversationID, from, &d)
	if err != nil {
		h.t.Fatal(err)
	}
	return m
}

// browser registers a browser of a user; pushes to it have that path.
func (h *house) browser(user int, path string) {
	h.t.Helper()
	if err := h.devices.Put(h.t.Context(), h.users[user], "", strings.Trim(path, "/"), h.service.subscribe(path)); err != nil {
		h.t.Fatal(err)
	}
}

// allDue waits until every message is due for a decision.
func (h *house) allDue() {
	h.t.Helper()
	h.await("all messages are due", func() bool {
		var n int
		return h.db.SQL.QueryRow(`SELECT count(*) FROM messages WHERE created_at > clock_timestamp() - make_interval(secs => $1)`, testDelay.Seconds()).Scan(&n) == nil && n == 0
	})
}

func (h *house) decided(outcome string) float64 {
	return testutil.ToFloat64(h.metrics.decisions.WithLabelValues(outcome))
}

func (h *house) sent(provider, outcome string) float64 {
	return testutil.ToFloat64(h.metrics.sends.WithLabelValues(provider, outcome))
}

func (h *house) await(what string, cond func() bool) {
	h.t.Helper()
	testenv.Eventually(h.t, 2*time.Minute, cond, "%s; decisions: %s", what, func() string {
		var b strings.Builder
		for _, o := range outcomes {
			b.WriteString(o + " ")
			b.WriteString(strings.Repeat("|", int(h.decided(o))) + " ")
		}
		return b.String()
	}())
}
