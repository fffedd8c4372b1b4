package receipt

import (
	"context"
	_ "embed"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/parley-chat/parley/internal/chat"
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

// add takes reads, in one round trip, on a cluster in two, and notes in each what was new.
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
	// The indexes come first: what is written without being in one would never be found.
	touches := b.touch(b.touch(nil, rediskey.DirtyMessages, messages.ids), rediskey.DirtyReaders, readers.ids)
	if b.keys.Tagged { // its nodes take their parts of a pipeline at the same time
		if _, err := runAll(ctx, b.rdb, touches); err != nil {
			return fmt.Errorf("note what is dirty: %w", err)
		}
		touches = nil
	}
	cmds, err := runAll(ctx, b.rdb, append(touches, b.additions(batch, &messages, &readers)...))
	if err != nil {
		return fmt.Errorf("keep reads in redis: %w", err)
	}
	return noteAnswers(cmds[len(touches):], batch, &messages, &readers)
}

// additions are the calls that add reads to their messages' batches and move their readers' markers.
func (b *buffer) additions(batch []*read, messages, readers *grouped) []redisconn.Call {
	calls := make([]redisconn.Call, 0, len(messages.ids)+len(readers.ids))
	for _, m := range messages.ids {
		args := make([]any, len(messages.places[m]))
		for n, i := range messages.places[m] {
			args[n] = batch[i].userID
		}
		calls = append(calls, redisconn.Call{Script: b.read, Keys: []string{b.keys.ReadBatch(m), b.keys.ReadCount(m)}, Args: args})
	}
	for _, u := range readers.ids {
		args := make([]any, 0, 3*len(readers.places[u]))
		for _, i := range readers.places[u] {
			args = append(args, batch[i].conversationID, batch[i].seq, batch[i].markerVersion())
		}
		calls = append(calls, redisconn.Call{Script: b.mark, Keys: []string{b.keys.ReadMarkers(u)}, Args: args})
	}
	return calls
}

// noteAnswers notes in reads what was new, by the answers to additions.
func noteAnswers(cmds []*redis.Cmd, batch []*read, messages, readers *grouped) error {
	for n, m := range messages.ids {
		answer, err := cmds[n].Int64Slice()
		if err != nil || len(answer) != 1+len(messages.places[m]) {
			return fmt.Errorf("read an answer of read.lua: %v, %w", answer, err)
		}
		for k, i := range messages.places[m] {
			batch[i].fresh = answer[1+k] == 1
		}
	}
	for n, u := range readers.ids {
		answer, err := cmds[len(messages.ids)+n].Int64Slice()
		if err != nil || len(answer) != len(readers.places[u]) {
			return fmt.Errorf("read an answer of mark.lua: %v, %w", answer, err)
		}
		for k, i := range readers.places[u] {
			batch[i].moved = batch[i].seq > answer[k]
		}
	}
	return nil
}

// runAll runs scripts in one pipeline, and fails where one of them does.
func runAll(ctx context.Context, rdb redis.UniversalClient, calls []redisconn.Call) ([]*redis.Cmd, error) {
	cmds, err := redisconn.RunScripts(ctx, rdb, calls)
	if err == nil {
		err = redisconn.FirstError(cmds)
	}
	return cmds, err
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
func (b *buffer) markers(ctx context.Context, userID string) (map[string]chat.PendingMarker, error) {
	held, err := b.rdb.HGetAll(ctx, b.keys.ReadMarkers(userID)).Result()
	if err != nil {
		return nil, fmt.Errorf("read pending markers: %w", err)
	}
	out := make(map[string]chat.PendingMarker, len(held)/2)
	for conversation := range held {
		if m, _, ok := parseMarker(held, conversation); ok && id.Valid(conversation) {
			out[conversation] = m
		}
	}
	return out, nil
}

// tagOf is the field of a reader's hash with the version and time of a conversation's marker (mark.lua).
func tagOf(conversationID string) string { return conversationID + ":v" }

// parseMarker reads a conversation's marker of a reader's hash, and its tag as it stands. A version before tags wrote none. ok is
// false for a field that is no marker.
func parseMarker(held map[string]string, conversationID string) (m chat.PendingMarker, tag string, ok bool) {
	seq, err := strconv.ParseInt(held[conversationID], 10, 64)
	if err != nil {
		return m, "", false
	}
	m.Seq, tag = seq, held[tagOf(conversationID)]
	version, at, _ := strings.Cut(tag, ":")
	if v, err := strconv.ParseInt(version, 10, 32); err == nil {
		m.Version = int(v)
	}
	if ms, err := strconv.ParseInt(at, 10, 64); err == nil && ms > 0 {
		m.ReadAt = time.UnixMilli(ms).UTC()
	}
	return m, tag, true
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
	// Of a marker also its version and time, and the tag that says both.
	marker chat.PendingMarker
	tag    string
}

// at is the time of a read.
func (r row) at() time.Time { return time.UnixMilli(r.value).UTC() }
