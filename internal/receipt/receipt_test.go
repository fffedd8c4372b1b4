package receipt_test

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"

	"github.com/parley-chat/parley/internal/cursor"
	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/receipt"
	"github.com/parley-chat/parley/internal/rediskey"
	"github.com/parley-chat/parley/internal/testenv"
)

func TestMain(m *testing.M) { testenv.VerifyNoLeaks(m) }

// notices counts the notices for senders and readers.
type notices struct {
	mu sync.Mutex
	n  map[string]int
	of []*event.Notice
	// markers are the events of moved markers.
	markers []*event.Event
}

func (n *notices) Publish(events ...*event.Event) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.markers = append(n.markers, events...)
}

func (n *notices) Notify(x *event.Notice) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.of = append(n.of, x)
	if n.n == nil {
		n.n = map[string]int{}
	}
	n.n[x.Type]++
}

// maxMembers is the bound of conversations whose markers are published.
const maxMembers = 5

// env is a pod's service and a worker's flusher.
type env struct {
	t        testing.TB
	db       *postgres.DB
	server   *testenv.RedisServer
	rdb      *redis.Client
	service  *receipt.Service
	registry *prometheus.Registry
	log      *testenv.Output
	notices  *notices
	began    func() time.Time // when the present history began; nil if that is unknown
}

func newEnv(t testing.TB) *env {
	t.Helper()
	server := testenv.Redis(t)
	return newEnvOn(t, server, server.Client(t))
}

// newEnvOn makes an env whose service reaches the server by a client of its own.
func newEnvOn(t testing.TB, server *testenv.RedisServer, rdb redis.UniversalClient) *env {
	t.Helper()
	db := testenv.Open(t, postgres.Config{URL: testenv.Postgres(t), MaxConns: 12})
	e := &env{t: t, db: db, server: server, registry: prometheus.NewRegistry(), log: &testenv.Output{}, notices: &notices{}}
	e.rdb = e.server.Client(t)
	e.service = receipt.NewService(db.SQL, rdb, e.notices, receipt.NewMemory(), nil, maxMembers, receipt.NewMetrics(prometheus.NewRegistry()), slog.New(slog.NewTextHandler(e.log, nil)))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = e.service.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return e
}

func (e *env) flusher() *receipt.Flusher { return e.flusherOn(e.rdb) }

func (e *env) flusherOn(rdb redis.UniversalClient) *receipt.Flusher {
	return receipt.NewFlusher(e.db.SQL, rdb, time.Second, e.began, receipt.NewFlushMetrics(e.registry), slog.New(slog.NewTextHandler(e.log, nil)))
}

// fixture makes a conversation with members and messages, straight in the database. The first member sends.
func fixture(t testing.TB, db *sql.DB, typ string, members, messages int) (conversation string, users, sent []string) {
	t.Helper()
	conversation = id.New()
	exec := func(query string, args ...any) {
		t.Helper()
		if _, err := db.Exec(query, args...); err != nil {
			t.Fatal(err)
		}
	}
	for range members {
		users = append(users, id.New())
	}
	for range messages {
		sent = append(sent, id.New())
	}
	// Users of tests needn't be found by search, whose triggers take long.
	exec(`ALTER TABLE users DISABLE TRIGGER users_search_changed`)
	exec(`INSERT INTO users (id, username, display_name, password_hash) SELECT u, right(u::text, 12) || left(u::text, 8), 'x', '!' FROM unnest($1::text[]::uuid[]) u`, users)
	exec(`INSERT INTO conversations (id, type, last_message_at, last_seq, member_count, created_at) VALUES ($1, $2, now(), $3, $4, now())`, conversation, typ, messages, members)
	exec(`INSERT INTO conversation_members (conversation_id, user_id, role) SELECT $1, u, 'member' FROM unnest($2::text[]::uuid[]) u`, conversation, users)
	exec(`INSERT INTO messages (id, conversation_id, seq, revision, sender_id, content, created_at)
		SELECT m, $1, n, n, $2, 'x', now() FROM unnest($3::text[]::uuid[]) WITH ORDINALITY AS x (m, n)`, conversation, users[0], sent)
	exec(`ANALYZE users, messages, conversation_members`)
	return conversation, users, sent
}

func (e *env) count(query string, args ...any) (n int) {
	e.t.Helper()
	if err := e.db.SQL.QueryRow(query, args...).Scan(&n); err != nil {
		e.t.Fatal(err)
	}
	return n
}

func (e *env) flush(f *receipt.Flusher) {
	e.t.Helper()
	if err := f.Flush(e.t.Context()); err != nil {
		e.t.Fatal(err)
	}
}

func (e *env) empty() {
	e.t.Helper()
	for _, pattern := range []string{"read_batch:*", "read_count:*", "read_markers:*"} {
		if k := e.rdb.Keys(e.t.Context(), pattern).Val(); len(k) != 0 {
			e.t.Errorf("%d keys %s are left", len(k), pattern)
		}
	}
}

// pending puts readers straight into Redis, as read.lua does, in the same millisecond.
func (e *env) pending(messages, readers []string) {
	e.t.Helper()
	at := float64(time.Now().UnixMilli())
	for len(messages) > 0 {
		part := messages[:min(len(messages), 1000)]
		messages = messages[len(part):]
		_, err := e.rdb.Pipelined(e.t.Context(), func(p redis.Pipeliner) error {
			for _, m := range part {
				p.ZAdd(e.t.Context(), rediskey.DirtyMessages, redis.Z{Score: at, Member: m})
				for _, r := range readers {
					p.ZAdd(e.t.Context(), "read_batch:"+m, redis.Z{Score: at, Member: r})
				}
				p.Set(e.t.Context(), "read_count:"+m, len(readers), 0)
			}
			return nil
		})
		if err != nil {
			e.t.Fatal(err)
		}
	}
}

func TestPiecesJoinWhateverTiesAndRemovals(t *testing.T) {
	t.Parallel()
	rdb := testenv.Redis(t).Client(t)
	rng := rand.New(rand.NewPCG(7, 7))
	for round := range 60 {
		key := fmt.Sprint("set", round)
		var want []string
		for n := range rng.IntN(60) {
			m := fmt.Sprintf("m%02d", n)
			want = append(want, m)
			rdb.ZAdd(t.Context(), key, redis.Z{Score: float64(rng.IntN(1 + round/4)), Member: m})
		}
		got, err := receipt.Walk(t.Context(), rdb, key, int64(1+rng.IntN(7)), func() {
			rdb.ZPopMin(t.Context(), key) // what was read may go meanwhile
		})
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Fatalf("round %d: got %v, want %v", round, got, want)
		}
	}
}

// A failover lost the tail of a conversation, and Redis has a marker beyond what is left: what is sent instead is unread.
func TestAMarkerOfALostFutureEndsWhereTheHistoriesPart(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	conversation, users, _ := fixture(t, e.db.SQL, "group", 3, 5)
	e.rdb.ZAdd(t.Context(), rediskey.DirtyReaders, redis.Z{Score: float64(time.Now().UnixMilli()), Member: users[1]})
	e.rdb.HSet(t.Context(), rediskey.Receipts{}.ReadMarkers(users[1]), conversation, 25)
	if _, err := e.db.SQL.Exec(`UPDATE messages SET created_at = now() - interval '1 hour' WHERE conversation_id = $1 AND seq <= 3`, conversation); err != nil {
		t.Fatal(err)
	}
	e.began = func() time.Time { return time.Now().Add(-time.Minute) } // messages 4 and 5 were sent since
	f := e.flusher()
	e.flush(f)
	if n := e.count(`SELECT last_read_seq FROM conversation_members WHERE user_id = $1`, users[1]); n != 3 {
		t.Errorf("the marker is at %d, want 3 of 5 messages", n)
	}
	e.empty()
}

func TestABacklogPassesInPieces(t *testing.T) {
	t.Parallel()
	const n = 20_000
	e := newEnv(t)
	_, users, messages := fixture(t, e.db.SQL, "group", n+1, n)
	e.pending(messages[:1], users[1:]) // one message with all readers
	e.pending(messages[1:], users[1:2])
	f := e.flusher()
	e.flush(f)
	if got := e.count(`SELECT count(*) FROM read_receipts`); got != 2*n-1 {
		t.Errorf("%d rows", got)
	}
	e.empty()
}

func TestRefusedRowsWaitAndOthersAreWritten(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	_, users, messages := fixture(t, e.db.SQL, "group", 20, 30)
	e.pending(messages, users[1:])
	bad := map[string]bool{messages[0]: true, messages[13]: true, messages[29]: true}
	if _, err := e.db.SQL.Exec(fmt.Sprintf(`CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		IF NEW.message_id IN ('%s', '%s', '%s') THEN RAISE 'refused'; END IF; RETURN NEW; END $$`, messages[0], messages[13], messages[29])); err != nil {
		t.Fatal(err)
	}
	if _, err := e.db.SQL.Exec(`CREATE TRIGGER refuse BEFORE INSERT ON read_receipts FOR EACH ROW EXECUTE FUNCTION refuse()`); err != nil {
		t.Fatal(err)
	}
	f := e.flusher()
	e.flush(f)
	if got := e.count(`SELECT count(*) FROM read_receipts`); got != 27*19 {
		t.Errorf("%d rows of %d", got, 27*19)
	}
	for m := range bad {
		if n := e.rdb.ZCard(t.Context(), "read_batch:"+m).Val(); n != 19 {
			t.Errorf("%d readers are left of one that was refused", n)
		}
		if !strings.Contains(e.log.String(), "id="+m+" rows=19") {
			t.Errorf("the log does not say that %s waits", m)
		}
	}
	if n := testutil.CollectAndCount(e.registry, "parley_receipts_flush_failures_total"); n != 1 {
		t.Fatal("failures are not counted")
	}
	if n := testenv.Metric(t, e.registry, "parley_receipts_flush_failures_total"); n != 3 {
		t.Errorf("%v failures", n)
	}
	e.flush(f) // they wait: nothing is tried
	if n := testenv.Metric(t, e.registry, "parley_receipts_flush_failures_total"); n != 3 {
		t.Errorf("%v failures after a flush that leaves them alone", n)
	}
	if _, err := e.db.SQL.Exec(`DROP TRIGGER refuse ON read_receipts`); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, 30*time.Second, func() bool {
		e.flush(f)
		return e.count(`SELECT count(*) FROM read_receipts`) == 30*19
	}, "they are tried again")
	e.empty()
}

func TestATouchedIDStaysInItsIndex(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	now := time.Now()
	old := float64(now.Add(-2 * receipt.Linger).UnixMilli())
	untouched, young := id.New(), id.New()
	_, users, messages := fixture(t, e.db.SQL, "group", 3, 1)
	full := messages[0]
	for member, score := range map[string]float64{untouched: old, full: old, young: float64(now.UnixMilli() - 1), "nonsense": old} {
		e.rdb.ZAdd(t.Context(), rediskey.DirtyMessages, redis.Z{Score: score, Member: member})
	}
	e.rdb.ZAdd(t.Context(), "read_batch:"+full, redis.Z{Score: old, Member: users[1]})
	f := e.flusher()
	e.flush(f)
	left := e.rdb.ZRange(t.Context(), rediskey.DirtyMessages, 0, -1).Val()
	want := []string{full, young}
	slices.Sort(left)
	slices.Sort(want)
	if !slices.Equal(left, want) {
		t.Errorf("the index holds %v, want %v", left, want)
	}
	e.flush(f) // by now the one that was full is empty, and old
	if left := e.rdb.ZRange(t.Context(), rediskey.DirtyMessages, 0, -1).Val(); !slices.Equal(left, []string{young}) {
		t.Errorf("the index holds %v, want %v", left, young)
	}
}

func TestWhatIsNoIDIsDropped(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	c, users, messages := fixture(t, e.db.SQL, "group", 3, 2)
	e.pending(messages[:1], []string{users[1], "nonsense", "'; DROP TABLE users"})
	e.rdb.HSet(t.Context(), "read_markers:"+users[2], c, "2", messages[0], "x", "nonsense", "1")
	e.rdb.ZAdd(t.Context(), rediskey.DirtyReaders, redis.Z{Score: 1, Member: users[2]})
	e.flush(e.flusher())
	if got := e.count(`SELECT count(*) FROM read_receipts`); got != 1 {
		t.Errorf("%d rows", got)
	}
	if got := e.count(`SELECT last_read_seq FROM conversation_members WHERE user_id = $1`, users[2]); got != 2 {
		t.Errorf("the marker is at %d", got)
	}
	e.rdb.HDel(t.Context(), "read_markers:"+users[2], messages[0]) // a number that is none is left alone
	e.empty()
	if !strings.Contains(e.log.String(), "rows that hold no ids are dropped") {
		t.Errorf("the log says %s", e.log)
	}
}

func TestOnlyOneFlushesAtATime(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	_, users, messages := fixture(t, e.db.SQL, "group", 3, 2)
	e.pending(messages, users[1:])
	e.rdb.Set(t.Context(), rediskey.FlushLease, "another", time.Minute)
	f := e.flusher()
	e.flush(f)
	if got := e.count(`SELECT count(*) FROM read_receipts`); got != 0 {
		t.Errorf("%d rows were written beside another's flush", got)
	}
	e.rdb.Del(t.Context(), rediskey.FlushLease)
	e.flush(f)
	e.empty()
	if n := e.rdb.Exists(t.Context(), rediskey.FlushLease).Val(); n != 0 {
		t.Error("the lease is kept after the flush")
	}
}

// While reads arrive and are flushed, no page of the receipts repeats a reader and no reader disappears.
func TestReceiptsAreWholeWhileTheyAreFlushed(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	_, users, messages := fixture(t, e.db.SQL, "group", 301, 1)
	m := messages[0]
	var g sync.WaitGroup
	g.Go(func() {
		for _, u := range users[1:] {
			if err := e.service.Read(t.Context(), u, m, ""); err != nil {
				t.Error(err)
			}
		}
	})
	stop := make(chan struct{})
	f := e.flusher()
	var flushes sync.WaitGroup
	flushes.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				if err := f.Flush(t.Context()); err != nil {
					t.Error(err)
				}
			}
		}
	})
	end := sync.OnceFunc(func() {
		g.Wait()
		close(stop)
		flushes.Wait()
	})
	defer end()
	for seen := 0; seen < 300 && !t.Failed(); {
		var all []receipt.Receipt
		var after *cursor.Position
		count := 0
		for {
			page, err := e.service.Receipts(t.Context(), users[0], m, after, 50)
			if err != nil {
				t.Fatal(err)
			}
			if page.Count < count {
				t.Fatalf("the count fell from %d to %d", count, page.Count)
			}
			count = page.Count
			all = append(all, page.Receipts...)
			if !page.HasMore {
				break
			}
			last := page.Receipts[len(page.Receipts)-1]
			after = &cursor.Position{Time: last.ReadAt.Time, ID: last.UserID}
		}
		distinct := map[string]bool{}
		for _, r := range all {
			distinct[r.UserID] = true
		}
		if len(distinct) != len(all) || len(all) < seen {
			t.Fatalf("%d receipts of %d users, after %d", len(all), len(distinct), seen)
		}
		seen = len(all)
	}
	end()
	e.flush(f)
	e.empty()
	if got := e.count(`SELECT count(*) FROM read_receipts`); got != 300 {
		t.Errorf("%d rows", got)
	}
}

// Reads that come at once share statements and frames, and one that can't be made fails alone.
func TestReadsShareWhatTheyCost(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	_, users, messages := fixture(t, e.db.SQL, "group", 501, 4)
	commands := func() int64 {
		var n int64
		_, _ = fmt.Sscanf(after(e.rdb.Info(t.Context(), "stats").Val(), "total_commands_processed:"), "%d", &n)
		return n
	}
	before := commands()
	var g sync.WaitGroup
	for _, u := range users[1:] {
		for _, m := range messages {
			g.Go(func() {
				if err := e.service.Read(t.Context(), u, m, ""); err != nil {
					t.Error(err)
				}
			})
		}
	}
	g.Go(func() {
		if err := e.service.Read(t.Context(), id.New(), messages[0], ""); err != receipt.ErrNotFound { //nolint:errorlint // it is not wrapped
			t.Errorf("a stranger's read: %v", err)
		}
	})
	g.Wait()
	if n := commands() - before; n > 20_000 {
		t.Errorf("%d commands for 2000 reads", n)
	}
	testenv.Eventually(t, 30*time.Second, func() bool {
		e.notices.mu.Lock()
		defer e.notices.mu.Unlock()
		return e.notices.n[event.TypeReceiptRead] >= 4
	}, "the sender is notified of each message")
	e.notices.mu.Lock()
	if n := e.notices.n[event.TypeReceiptRead]; n > 400 {
		t.Errorf("%d frames for 2000 reads of 4 messages", n)
	}
	e.notices.mu.Unlock()
	e.flush(e.flusher())
	if got := e.count(`SELECT count(*) FROM read_receipts`); got != 2000 {
		t.Errorf("%d rows", got)
	}
}

func after(s, prefix string) string {
	_, rest, _ := strings.Cut(s, prefix)
	return rest
}

// Two pods write reads and sends of the same conversations, in all orders, and none blocks another permanently.
func TestWritesOfSeveralPodsDoNotDeadlock(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	other := receipt.NewService(e.db.SQL, e.rdb, e.notices, receipt.NewMemory(), nil, maxMembers, receipt.NewMetrics(prometheus.NewRegistry()), slog.New(slog.NewTextHandler(e.log, nil)))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = other.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	var g sync.WaitGroup
	var all []string
	for range 8 {
		_, users, messages := fixture(t, e.db.SQL, "direct", 2, 20)
		all = append(all, messages...)
		for _, s := range []*receipt.Service{e.service, other} {
			for _, m := range messages {
				g.Go(func() {
					if err := s.Read(t.Context(), users[1], m, ""); err != nil {
						t.Error(err)
					}
				})
			}
		}
	}
	g.Wait()
	if got := e.count(`SELECT count(*) FROM read_receipts WHERE message_id = ANY ($1::text[]::uuid[])`, all); got != len(all) {
		t.Errorf("%d rows of %d", got, len(all))
	}
}
