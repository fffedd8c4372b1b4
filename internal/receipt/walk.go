package receipt

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"

	"github.com/redis/go-redis/v9"
)

// entry is a member of a sorted set with its time in ms: a dirty id with its last touch, or a reader with the time of the read.
type entry struct {
	member string
	at     int64
}

// place is a position in a sorted set: after all entries with lower scores, and after the named members with the same score. The members are
// needed because many entries may have the same score.
type place struct {
	score   float64
	members map[string]bool
}

// start is the place before all entries.
var start = place{score: math.Inf(-1)}

func (p place) String() string {
	if math.IsInf(p.score, -1) {
		return "-inf"
	}
	return strconv.FormatFloat(p.score, 'f', -1, 64)
}

// forever is a score above those of all entries.
const forever = "+inf"

// readPiece reads about n entries of a sorted set after a place, with scores up to last. next is the place where they end, nil at the end of the
// set. Entries that are removed between two calls don't make it skip any, because a place is a score and not an offset.
func readPiece(ctx context.Context, rdb redis.Cmdable, key string, from place, last string, n int64) (entries []entry, next *place, err error) {
	found, err := rdb.ZRangeByScoreWithScores(ctx, key, pieceOf(from, last, n)).Result()
	if err != nil {
		return nil, nil, fmt.Errorf("read a batch: %w", err)
	}
	entries, next = follow(found, from, n)
	return entries, next, nil
}

// pieceOf returns the range of n entries after a place. The range also has the members of the place, which follow drops.
func pieceOf(from place, last string, n int64) *redis.ZRangeBy {
	return &redis.ZRangeBy{Min: from.String(), Max: last, Count: n + int64(len(from.members))}
}

// follow returns the entries of a pieceOf that are after the place, and the place where they end, nil at the end of the set.
func follow(found []redis.Z, from place, n int64) (entries []entry, next *place) {
	entries = make([]entry, 0, len(found))
	for _, z := range found {
		member, _ := z.Member.(string)
		if z.Score != from.score || !from.members[member] {
			entries = append(entries, entry{member, int64(z.Score)})
		}
	}
	if int64(len(found)) < n+int64(len(from.members)) {
		return entries, nil
	}
	next = &place{score: found[len(found)-1].Score, members: map[string]bool{}}
	for _, z := range slices.Backward(found) {
		if z.Score != next.score {
			break
		}
		member, _ := z.Member.(string)
		next.members[member] = true
	}
	if next.score == from.score {
		maps.Copy(next.members, from.members)
	}
	return entries, next
}
