package push

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/parley-chat/parley/internal/backoff"
	"github.com/parley-chat/parley/internal/postgres"
)

const (
	// sendEvery is the pause between two reads of waiting pushes, sendIdle the pause after a read that found none. Pushes that were decided in
	// the same process are sent at once (Wake).
	sendEvery = 200 * time.Millisecond
	sendIdle  = time.Second
	// SendTimeout bounds one request to a provider.
	SendTimeout = 10 * time.Second
	// perLane is how many pushes each dispatcher sends at once to one lane, which is a provider's host. So a host that does not respond
	// delays no other.
	perLane = 16
	// sendLease is how long a send may take before another dispatcher takes it over: a new token of FCM, two requests, and reading.
	sendLease = 3*SendTimeout + 10*time.Second
	// giveUpAfter is the age from which a failed push is dropped, maxAfter the longest pause that a provider may ask for.
	giveUpAfter = time.Hour
	maxAfter    = time.Hour
)

// retryPauses are the pauses after failed attempts; they vary by a fifth. A push that fails once more is dropped.
var retryPauses = []time.Duration{5 * time.Second, time.Minute, 5 * time.Minute, 20 * time.Minute}

// parcel is a push to one device.
type parcel struct {
	device, provider, address string
	p256dh, auth              string
	push                      Push
	payload                   []byte
	// urgent is set for a message in a direct conversation, and for one that mentions the user.
	urgent bool
}

// answer is a provider's response. status is 0 if there was none; after is its Retry-After, 0 for none.
type answer struct {
	status int
	after  time.Duration
	err    error
}

// Provider sends pushes of one kind.
type Provider interface {
	send(ctx context.Context, p *parcel) answer
}

// Sender sends the pushes that were decided. Any number of senders may run.
type Sender struct {
	db        *sql.DB
	providers map[string]Provider
	content   *content
	metrics   *Metrics
	log       *slog.Logger
	wake      chan struct{} // holds one element after Wake

	mu     sync.Mutex     // guards flying
	flying map[string]int // pushes that are being sent, by lane
}

// NewSender makes a sender, which needs its Run. Pushes for providers that are not in the map are dropped.
func NewSender(db *sql.DB, providers map[string]Provider, c Contents, m *Metrics, log *slog.Logger) *Sender {
	return &Sender{db: db, providers: providers, content: newContent(db, c), metrics: m, log: log, wake: make(chan struct{}, 1), flying: map[string]int{}}
}

// Wake makes the sender read waiting pushes now. It may be called from any goroutine and never waits.
func (s *Sender) Wake() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// wakePause is the shortest pause between two reads, however often Wake is called.
const wakePause = 20 * time.Millisecond

// pace calls f repeatedly until ctx ends: after the pause that f returned, or wakePause after wake has an element.
func pace(ctx context.Context, wake <-chan struct{}, f func(ctx context.Context) time.Duration) error {
	for ctx.Err() == nil {
		timer := time.NewTimer(f(ctx))
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-wake:
			backoff.Wait(ctx, wakePause)
		}
		timer.Stop()
	}
	return nil
}

// Run sends until ctx ends. Sends in progress are finished.
func (s *Sender) Run(ctx context.Context) error {
	var works sync.WaitGroup
	defer works.Wait()
	return pace(ctx, s.wake, func(ctx context.Context) time.Duration {
		lanes, err := postgres.Column[string](ctx, s.db, `SELECT DISTINCT lane FROM push_sends WHERE next_at <= clock_timestamp()`)
		for _, lane := range lanes {
			var list []job
			if list, err = s.claim(ctx, lane); err != nil {
				break
			}
			for i := range list {
				works.Go(func() { s.runJob(context.WithoutCancel(ctx), lane, &list[i]) })
			}
		}
		if err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "pushes cannot be read", "error", err)
		}
		if err == nil && len(lanes) == 0 {
			return sendIdle
		}
		return sendEvery
	})
}

// job is a waiting push whose lease this sender holds.
type job struct {
	device, conversationID, lease string
	attempts                      int
	age                           time.Duration
}

// claim leases as many due pushes of a lane as the lane has free slots.
func (s *Sender) claim(ctx context.Context, lane string) ([]job, error) {
	s.mu.Lock()
	free := perLane - s.flying[lane]
	s.mu.Unlock()
	if free <= 0 {
		return nil, nil
	}
	list, err := postgres.Collect(ctx, s.db, func(r postgres.Row, j *job) error {
		var seconds float64
		err := r.Scan(&j.device, &j.conversationID, &j.lease, &j.attempts, &seconds)
		j.age = time.Duration(seconds * float64(time.Second))
		return err
	}, `WITH d AS MATERIALIZED (
			SELECT device, conversation_id FROM push_sends WHERE lane = $1 AND next_at <= clock_timestamp() ORDER BY next_at LIMIT $2 FOR UPDATE SKIP LOCKED
		)
		UPDATE push_sends p SET lease = gen_random_uuid(), next_at = clock_timestamp() + make_interval(secs => $3)
		FROM d WHERE p.device = d.device AND p.conversation_id = d.conversation_id
		RETURNING p.device, p.conversation_id, p.lease, p.attempts, extract(epoch FROM clock_timestamp() - p.created_at)`, lane, free, sendLease.Seconds())
	if err != nil {
		return nil, fmt.Errorf("take pushes: %w", err)
	}
	s.mu.Lock()
	s.flying[lane] += len(list)
	s.mu.Unlock()
	return list, nil
}

func (s *Sender) runJob(ctx context.Context, lane string, j *job) {
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.flying[lane]--; s.flying[lane] == 0 {
			delete(s.flying, lane)
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, sendLease)
	defer cancel()
	if err := s.deliver(ctx, j); err != nil {
		s.log.WarnContext(ctx, "a push cannot be sent", "error", err)
	}
}

// deliver sends one push, or drops it if its message was read or deleted or its device has ended meanwhile. A failed push is retried or
// dropped.
func (s *Sender) deliver(ctx context.Context, j *job) error {
	p, err := s.parcel(ctx, j)
	if err != nil {
		return err
	}
	provider := s.providers[p.provider]
	if p.payload == nil || provider == nil {
		s.count(p, sendUnnecessary)
		return s.drop(ctx, j)
	}
	begun := time.Now()
	a := provider.send(ctx, p)
	s.metrics.seconds.WithLabelValues(p.provider).Observe(time.Since(begun).Seconds())
	switch {
	case a.status >= 200 && a.status < 300:
		s.count(p, sendDelivered)
		return s.drop(ctx, j)
	case a.status == http.StatusNotFound || a.status == http.StatusGone:
		s.count(p, sendGone)
		s.log.InfoContext(ctx, "a device is gone", "provider", p.provider, "status", a.status)
		return s.remove(ctx, p)
	case a.status != 0 && a.status != http.StatusTooManyRequests && a.status < 500:
		s.count(p, sendRefused)
		s.log.WarnContext(ctx, "a push was refused", "provider", p.provider, "status", a.status, "error", a.err)
		return s.drop(ctx, j)
	}
	if j.attempts >= len(retryPauses) || j.age > giveUpAfter {
		s.count(p, sendDropped)
		s.log.WarnContext(ctx, "a push was given up", "provider", p.provider, "status", a.status, "error", a.err)
		return s.drop(ctx, j)
	}
	s.count(p, sendRetried)
	return s.retry(ctx, j, max(backoff.Spread(retryPauses[j.attempts]), a.after))
}

func (s *Sender) count(p *parcel, outcome string) {
	if p.provider != "" {
		s.metrics.sends.WithLabelValues(p.provider, outcome).Inc()
	}
}

// parcel reads everything that the request needs. The payload is nil if the push is no longer needed.
func (s *Sender) parcel(ctx context.Context, j *job) (*parcel, error) {
	p := &parcel{device: j.device}
	type row struct {
		shown
		count  int64
		needed bool
	}
	rows, err := postgres.Collect(ctx, s.db, func(r postgres.Row, w *row) error {
		return w.scan(r, &p.provider, &p.address, &p.p256dh, &p.auth, &w.count, &w.needed)
	}, `SELECT `+shownColumns+`, d.provider, d.address, d.p256dh, d.auth, o.count,
			m.deleted_at IS NULL AND k.last_read_seq < o.seq AND `+liveDevice+`
		FROM push_sends o
		JOIN push_devices d ON d.id = o.device`+joinSession+`
		JOIN messages m ON m.id = o.message_id
		JOIN conversations c ON c.id = m.conversation_id
		JOIN users a ON a.id = m.sender_id
		CROSS JOIN LATERAL (SELECT d.user_id) x
		JOIN conversation_members k ON k.conversation_id = o.conversation_id AND k.user_id = d.user_id
		LEFT JOIN push_preferences f ON f.user_id = d.user_id
		WHERE o.device = $1 AND o.conversation_id = $2 AND o.lease = $3`, j.device, j.conversationID, j.lease)
	if err != nil {
		return nil, fmt.Errorf("read a push: %w", err)
	}
	if len(rows) == 0 || !rows[0].needed {
		return p, nil
	}
	w := &rows[0]
	if err := s.content.finish(ctx, &w.shown, w.count); err != nil {
		return nil, err
	}
	p.push, p.urgent = w.push, w.direct || w.mentioned
	p.payload, err = encode(w.push)
	return p, err
}

// drop removes a push, unless a newer one replaced it.
func (s *Sender) drop(ctx context.Context, j *job) error {
	_, err := s.db.ExecContext(ctx, `DELETE FROM push_sends WHERE device = $1 AND conversation_id = $2 AND lease = $3`, j.device, j.conversationID, j.lease)
	if err != nil {
		return fmt.Errorf("drop a push: %w", err)
	}
	return nil
}

// retry makes a push due again after a pause.
func (s *Sender) retry(ctx context.Context, j *job, pause time.Duration) error {
	_, err := s.db.ExecContext(ctx, `UPDATE push_sends SET attempts = attempts + 1, lease = NULL, next_at = clock_timestamp() + make_interval(secs => $4)
		WHERE device = $1 AND conversation_id = $2 AND lease = $3`, j.device, j.conversationID, j.lease, min(pause, maxAfter).Seconds())
	if err != nil {
		return fmt.Errorf("postpone a push: %w", err)
	}
	return nil
}

// remove removes a device that its provider no longer knows, unless it was registered with another address meanwhile.
func (s *Sender) remove(ctx context.Context, p *parcel) error {
	if _, err := s.db.ExecContext(ctx, `DELETE FROM push_devices WHERE id = $1 AND address = $2`, p.device, p.address); err != nil {
		return fmt.Errorf("remove a device: %w", err)
	}
	return nil
}
