// Package ratelimit limits the actions of clients. It counts them in Redis, for all pods together. While Redis is unavailable each process counts
// in its memory (memory.go).
//
// A bucket holds as many actions as its rate's count, and refills evenly over the window (GCRA). docs/adr/0005 has the reasons for a separate
// script. Concurrent requests share round trips to Redis (batch.go).
package ratelimit

import (
	"context"
	_ "embed"
	"log/slog"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/parley-chat/parley/internal/batch"
	"github.com/parley-chat/parley/internal/config"
	"github.com/parley-chat/parley/internal/lifecycle"
	"github.com/parley-chat/parley/internal/redisconn"
	"github.com/parley-chat/parley/internal/rediskey"
)

//go:embed gcra.lua
var gcraSource string

const (
	// patience is how long Redis may take to respond before it counts as unavailable. Only requests that wait at that time wait so long: until
	// a probe succeeds, later ones are counted in memory at once. It must be long enough that a busy Redis does not count as unavailable.
	patience = 500 * time.Millisecond
	// probeEvery is how often Redis is probed while it is unavailable.
	probeEvery = 500 * time.Millisecond
)

// Take is a charge to a bucket.
type Take struct {
	// Rule names the limit. Subject names the bucket within the limit: a user, an address, and so on.
	Rule, Subject string
	Rate          config.Rate
	// Cost is charged completely or not at all; 0 means 1. A negative cost gives back an earlier charge. A cost above the rate's count needs
	// and charges a full bucket.
	Cost int
}

// Verdict is the result of a Take.
type Verdict struct {
	Allowed bool
	// Limit is the bucket's size, Remaining the unused part.
	Limit, Remaining int
	// RetryAfter is the time until the Take is allowed, 0 if it is. Reset is the time until the bucket is full.
	RetryAfter, Reset time.Duration
}

// Limiter charges actions to buckets. Safe for concurrent use.
type Limiter struct {
	rdb     redis.UniversalClient
	script  *redis.Script
	waiting *batch.Batcher[*asking]
	memory  *memory
	log     *slog.Logger
	redis   *redisconn.Breaker // open: this process counts in its own memory

	limited  *prometheus.CounterVec
	fallback prometheus.Gauge
	losses   prometheus.Counter
}

// New makes a limiter, which needs its Run, and registers its metrics.
func New(rdb redis.UniversalClient, r prometheus.Registerer, log *slog.Logger) *Limiter {
	l := &Limiter{
		rdb: rdb, script: redis.NewScript(gcraSource), memory: newMemory(), log: log,
		limited: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "parley_rate_limited_total", Help: "Requests and frames that were refused by a rate limit.",
		}, []string{"rule"}),
		fallback: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "parley_rate_limit_fallback", Help: "1 while this process counts limits in its own memory because Redis is unavailable.",
		}),
		losses: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "parley_rate_limit_fallbacks_total", Help: "Times that this process began to count limits in its own memory.",
		}),
	}
	r.MustRegister(l.limited, l.fallback, l.losses)
	l.waiting = batch.New(maxWaiting, maxBatch, l.askBatch)
	l.redis = redisconn.NewBreaker(redisconn.BreakerConfig{
		Probe: func(ctx context.Context) error { return rdb.Ping(ctx).Err() }, Every: probeEvery, Wait: patience, Log: log,
		Opened: "redis does not respond: rate limits apply per process until it does", Closed: "redis responds again: rate limits apply over all pods",
		OnChange: func(open bool) {
			if open {
				l.fallback.Set(1)
				l.losses.Inc()
			} else {
				l.fallback.Set(0)
			}
		},
	})
	return l
}

// Rules makes the counts of refusals start at 0 for these rules.
func (l *Limiter) Rules(rules ...string) {
	for _, r := range rules {
		l.limited.WithLabelValues(r)
	}
}

// Refused counts a refusal by a limit that the caller has applied without the Limiter.
func (l *Limiter) Refused(rule string) { l.limited.WithLabelValues(rule).Inc() }

// Allow charges the buckets in one round trip, and returns the verdicts in the same order. A Take whose rate is off is allowed, with a Limit of 0.
func (l *Limiter) Allow(ctx context.Context, takes ...Take) []Verdict {
	out, _ := l.allow(ctx, takes)
	return out
}

// AllowOne is Allow for one bucket. A caller that holds the Limiter as an interface does not allocate a slice of takes.
func (l *Limiter) AllowOne(ctx context.Context, t Take) Verdict {
	out, _ := l.allow(ctx, []Take{t})
	return out[0]
}

// AllowAlso charges one bucket, and runs another script in the same round trip. The command is nil if Redis did not run that script.
func (l *Limiter) AllowAlso(ctx context.Context, t Take, call redisconn.Call) (Verdict, *redis.Cmd) {
	out, rest := l.allow(ctx, []Take{t}, call)
	if len(rest) == 0 {
		return out[0], nil
	}
	return out[0], rest[0]
}

// Do runs scripts in the shared round trips of the limiter. It returns nil, without waiting, while Redis is unavailable.
func (l *Limiter) Do(ctx context.Context, calls ...redisconn.Call) []*redis.Cmd {
	return l.ask(ctx, nil, calls...)
}

// allow is Allow. rest are the commands of the other calls, none if Redis did not run them.
func (l *Limiter) allow(ctx context.Context, takes []Take, also ...redisconn.Call) (out []Verdict, rest []*redis.Cmd) {
	out = make([]Verdict, len(takes))
	cmds := l.ask(ctx, takes, also...)
	for i, t := range takes {
		if t.Rate.Off() {
			out[i] = Verdict{Allowed: true}
			continue
		}
		counted := false
		if len(cmds) > 0 {
			out[i], counted = l.verdict(t, cmds[0])
			cmds = cmds[1:]
		}
		if !counted {
			out[i] = l.memory.take(t, time.Now())
		}
		if !out[i].Allowed {
			l.limited.WithLabelValues(t.Rule).Inc()
		}
	}
	return out, cmds
}

// ask runs the scripts of takes and the other calls, and waits for patience at most. It returns a command for each take whose rate is not off,
// followed by those of the other calls; nil if Redis did not respond.
func (l *Limiter) ask(ctx context.Context, takes []Take, also ...redisconn.Call) []*redis.Cmd {
	if l.redis.Open() {
		return nil
	}
	calls := make([]redisconn.Call, 0, len(takes)+len(also))
	for _, t := range takes {
		if !t.Rate.Off() {
			calls = append(calls, redisconn.Call{
				Script: l.script, Keys: []string{rediskey.RateLimit(t.Rule, t.Subject)},
				Args: []any{t.Rate.Count, interval(t.Rate).Microseconds(), t.cost()},
			})
		}
	}
	if calls = append(calls, also...); len(calls) == 0 {
		return nil
	}
	cmds, _ := l.share(ctx, calls)
	return cmds
}

// verdict reads the reply for a take. It returns false if there is none, so that this take is counted in memory. If the cause is not a corrupt
// bucket, Redis counts as unavailable, so that all takes are.
func (l *Limiter) verdict(t Take, cmd *redis.Cmd) (Verdict, bool) {
	v, err := cmd.Int64Slice()
	if err == nil && len(v) == 4 {
		return Verdict{
			Allowed: v[0] == 1, Limit: t.Rate.Count, Remaining: int(v[1]),
			RetryAfter: time.Duration(v[2]) * time.Microsecond, Reset: time.Duration(v[3]) * time.Microsecond,
		}, true
	}
	if isBroken(err) {
		l.log.Warn("a rate limit's bucket in redis is corrupt: it counts per process", "rule", t.Rule, "error", err)
	} else {
		l.redis.Fail(err)
	}
	return Verdict{}, false
}

// isBroken reports whether the script failed because the key does not hold a bucket, rather than Redis itself.
func isBroken(err error) bool {
	return err != nil && (strings.HasPrefix(err.Error(), "ERR ") || redis.HasErrorPrefix(err, "WRONGTYPE"))
}

func interval(r config.Rate) time.Duration {
	return max(r.Window/time.Duration(r.Count), time.Microsecond)
}

func (t Take) cost() int {
	if t.Cost == 0 {
		return 1
	}
	return min(t.Cost, t.Rate.Count)
}

// Run makes round trips for the requests that wait, and probes Redis while it is unavailable, until ctx ends.
func (l *Limiter) Run(ctx context.Context) error {
	g := lifecycle.NewGroup(ctx)
	g.Go("round trips", func(ctx context.Context) error {
		l.waiting.Run(ctx)
		return nil
	})
	g.Go("probe", l.redis.Run)
	g.Go("memory", func(ctx context.Context) error {
		return lifecycle.Every(ctx, probeEvery, func(context.Context) { l.memory.forget(time.Now()) })
	})
	return g.Wait()
}
