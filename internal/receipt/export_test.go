package receipt

import (
	"context"

	"github.com/redis/go-redis/v9"
)

// Walk reads all of a sorted set in pieces of n, for tests of how pieces join.
func Walk(ctx context.Context, rdb redis.UniversalClient, key string, n int64, between func()) (members []string, err error) {
	from := start
	for {
		rows, next, err := readPiece(ctx, rdb, key, from, forever, n)
		if err != nil {
			return nil, err
		}
		for _, r := range rows {
			members = append(members, r.member)
		}
		if next == nil {
			return members, nil
		}
		between()
		from = *next
	}
}

// Linger is how long an id with nothing left stays in its index.
const Linger = linger
