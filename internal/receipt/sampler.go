package receipt

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/parley-chat/parley/internal/lifecycle"
	"github.com/parley-chat/parley/internal/rediskey"
)

const (
	// sampleEvery is how often pending reads are counted.
	sampleEvery = 5 * time.Second
	// sampleMost is the largest number of messages that are counted. If there are more, the gauges are extrapolated.
	sampleMost  = 20_000
	samplePiece = 1000
)

// Sampler counts pending reads, for the gauges. It is independent of the flush, so it also counts while flushes fail.
type Sampler struct {
	rdb     redis.UniversalClient
	keys    rediskey.Receipts
	retries *retries
	metrics *FlushMetrics
	log     *slog.Logger
}

// NewSampler makes the sampler of a flusher.
func NewSampler(f *Flusher) *Sampler {
	return &Sampler{rdb: f.rdb, keys: rediskey.Receipts{Tagged: f.cluster}, retries: f.retries, metrics: f.metrics, log: f.log}
}

// Run counts until ctx ends. While Redis is unavailable the gauges keep their last values.
func (s *Sampler) Run(ctx context.Context) error {
	return lifecycle.Every(ctx, sampleEvery, func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, redisWait)
		defer cancel()
		if err := s.sample(ctx); err != nil {
			s.log.Debug("pending reads can't be counted", "error", err)
		}
	})
}

func (s *Sampler) sample(ctx context.Context) error {
	s.metrics.retrying.Set(float64(s.retries.count()))
	now, err := s.rdb.Time(ctx).Result()
	if err != nil {
		return fmt.Errorf("sample: %w", err)
	}
	var seen, messages, reads int64
	oldest := now
	from := start
	for seen < sampleMost {
		entries, next, err := readPiece(ctx, s.rdb, rediskey.DirtyMessages, from, forever, samplePiece)
		if err != nil {
			return err
		}
		counts, firsts, err := s.countReads(ctx, entries)
		if err != nil {
			return err
		}
		for i, n := range counts {
			if n > 0 {
				messages++
				reads += n
			}
			if at := firsts[i]; !at.IsZero() && at.Before(oldest) {
				oldest = at
			}
		}
		if seen += int64(len(entries)); next == nil {
			break
		}
		from = *next
	}
	all, err := s.rdb.ZCard(ctx, rediskey.DirtyMessages).Result()
	if err != nil {
		return fmt.Errorf("sample: %w", err)
	}
	scale := 1.0
	if seen >= sampleMost {
		scale = max(1, float64(all)/float64(seen))
	}
	s.metrics.pending.Set(float64(reads) * scale)
	s.metrics.pendingMessages.Set(float64(messages) * scale)
	s.metrics.age.Set(now.Sub(oldest).Seconds())
	return nil
}

// countReads reads the number of pending readers of messages, and the time of the first.
func (s *Sampler) countReads(ctx context.Context, entries []entry) ([]int64, []time.Time, error) {
	counts, firsts := make([]int64, len(entries)), make([]time.Time, len(entries))
	if len(entries) == 0 {
		return counts, firsts, nil
	}
	cards, heads := make([]*redis.IntCmd, len(entries)), make([]*redis.ZSliceCmd, len(entries))
	_, err := s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, e := range entries {
			key := s.keys.ReadBatch(e.member)
			cards[i], heads[i] = p.ZCard(ctx, key), p.ZRangeWithScores(ctx, key, 0, 0)
		}
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("sample: %w", err)
	}
	for i := range entries {
		counts[i] = cards[i].Val()
		for _, z := range heads[i].Val() {
			firsts[i] = time.UnixMilli(int64(z.Score))
		}
	}
	return counts, firsts, nil
}
