package receipt

import (
	"context"
	_ "embed"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/redisconn"
	"github.com/parley-chat/parley/internal/rediskey"
)

var (
	//go:embed read.lua
	readSource string
	//go:embed mark.lua
	markSource string
	//go:embed dirty.lua
	dirtySource string
)

// pieceSize is how many readers of a message are asked for at once.
const pieceSize = 2000

// buffer is what Redis holds of reads: a pod's side of it.
type buffer struct {
	rdb  redis.UniversalClient
	keys rediskey.Receipts

	read, mark, dirty *redis.Script
}

func newBuffer(rdb redis.UniversalClient) *buffer {
	_, cluster := rdb.(*redis.ClusterClient)
	return &buffer{
		rdb: rdb, keys: rediskey.Receipts{Tagged: cluster},
		read: redis.NewScript(readSource), mark: redis.NewScript(markSource), dirty: redis.NewScript(dirtySource),
	}
}

// grouped are ids in the order of their first mention, each with the places in a batch that it stands at.
type grouped struct {
	ids    []string
	places map[string][]int
}

func (g *grouped) add(id string, place int) {
	if g.places == nil {
		g.places = map[string][]int{}
	}
	if g.places[id] == nil {
		g.ids = append(g.ids, id)
	}
	g.places[id] = append(g.places[id], place)
}

// add takes reads, in one round trip, and notes in each what was new.
func (b *buffer) add(ctx context.Context, batch []*read) error {
	var messages, readers grouped
	for i, r := range batch {
		if r.receipt {
			messages.add(r.messageID, i)
		}
		if r.marker {
			readers.add(r.userID, i)
		}
	}
	calls := make([]redisconn.Call, 0, 2+len(messages.ids)+len(readers.ids))
	// The indexes come first: what is written without being in one would never be found.
	calls = b.touch(calls, rediskey.DirtyMessages, messages.ids)
	calls = b.touch(calls, rediskey.DirtyReaders, readers.ids)
	first := len(calls)
	for _, m := range messages.ids {
		args := make([]any, len(messages.places[m]))
		for n, i := range messages.places[m] {
			args[n] = batch[i].userID
		}
		calls = append(calls, redisconn.Call{Script: b.read, Keys: []string{b.keys.ReadBatch(m), b.keys.ReadCount(m)}, Args: args})
	}
	for _, u := range readers.ids {
		args := make([]any, 0, 2*len(readers.places[u]))
		for _, i := range readers.places[u] {
			args = append(args, batch[i].conversationID, batch[i].seq)
		}
		calls = append(calls, redisconn.Call{Script: b.mark, Keys: []string{b.keys.ReadMarkers(u)}, Args: args})
	}
	cmds, err := redisconn.RunScripts(ctx, b.rdb, calls)
	if err == nil {
		err = redisconn.FirstError(cmds)
	}
	if err != nil {
		return fmt.Errorf("keep reads in redis: %w", err)
	}
	for n, m := range messages.ids {
		answer, err := cmds[first+n].Int64Slice()
		if err != nil || len(answer) != 1+len(messages.places[m]) {
			return fmt.Errorf("read an answer of read.lua: %v, %w", answer, err)
		}
		for k, i := range messages.places[m] {
			batch[i].fresh = answer[1+k] == 1
		}
	}
	for n, u := range readers.ids {
		answer, err := cmds[first+len(messages.ids)+n].Int64Slice()
		if err != nil || len(answer) != len(readers.places[u]) {
			return fmt.Errorf("read an answer of mark.lua: %v, %w", answer, err)
		}
		for k, i := range readers.places[u] {
			batch[i].moved = batch[i].seq > answer[k]
		}
	}
	return nil
}

func (b *buffer) touch(calls []redisconn.Call, index string, ids []string) []redisconn.Call {
	if len(ids) == 0 {
		return calls
	}
	args := make([]any, len(ids))
	for i, id := range ids {
		args[i] = id
	}
	return append(calls, redisconn.Call{Script: b.dirty, Keys: []string{index}, Args: args})
}

// markers reads how far a user has read by what is pending.
func (b *buffer) markers(ctx context.Context, userID string) (map[string]int64, error) {
	held, err := b.rdb.HGetAll(ctx, b.keys.ReadMarkers(userID)).Result()
	if err != nil {
		return nil, fmt.Errorf("read pending markers: %w", err)
	}
	out := make(map[string]int64, len(held))
	for c, s := range held {
		if seq, err := strconv.ParseInt(s, 10, 64); err == nil {
			out[c] = seq
		}
	}
	return out, nil
}

// readers are a message's pending ones, in the order of their reads.
func (b *buffer) readers(ctx context.Context, messageID string) ([]row, error) {
	var out []row
	from := start
	for {
		piece, next, err := readPiece(ctx, b.rdb, b.keys.ReadBatch(messageID), from, forever, pieceSize)
		if err != nil {
			return nil, err
		}
		for _, r := range piece {
			if r.id = messageID; id.Valid(r.member) {
				out = append(out, r)
			}
		}
		if next == nil {
			return out, nil
		}
		from = *next
	}
}

// place is one in a sorted set: after those members that have the score.
type place struct {
	score   float64
	members map[string]bool
}

// start is before everything.
var start = place{score: math.Inf(-1)}

func (p place) String() string {
	if math.IsInf(p.score, -1) {
		return "-inf"
	}
	return strconv.FormatFloat(p.score, 'f', -1, 64)
}

// forever is after everything.
const forever = "+inf"

// readPiece reads members of a sorted set that follow a place, some n of them, with scores up to a last one; next is nil at
// the end. What is removed meanwhile shifts nothing, since the place is a score.
func readPiece(ctx context.Context, rdb redis.Cmdable, key string, from place, last string, n int64) (rows []row, next *place, err error) {
	found, err := rdb.ZRangeByScoreWithScores(ctx, key, pieceOf(from, last, n)).Result()
	if err != nil {
		return nil, nil, fmt.Errorf("read a batch: %w", err)
	}
	rows, next = follow(found, from, n)
	return rows, next, nil
}

// pieceOf asks for n members more than are known at the place.
func pieceOf(from place, last string, n int64) *redis.ZRangeBy {
	return &redis.ZRangeBy{Min: from.String(), Max: last, Count: n + int64(len(from.members))}
}

// follow takes what pieceOf found.
func follow(found []redis.Z, from place, n int64) (rows []row, next *place) {
	rows = make([]row, 0, len(found))
	for _, z := range found {
		member, _ := z.Member.(string)
		if z.Score != from.score || !from.members[member] {
			rows = append(rows, row{member: member, value: int64(z.Score)})
		}
	}
	if int64(len(found)) < n+int64(len(from.members)) {
		return rows, nil
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
	return rows, next
}

// row is one thing that is pending. Of a message: a reader, and when, in milliseconds. Of a reader: a conversation, and up to
// which seq.
type row struct {
	id, member string
	value      int64
}

// at is the time of a read.
func (r row) at() time.Time { return time.UnixMilli(r.value).UTC() }
