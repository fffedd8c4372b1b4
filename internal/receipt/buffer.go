package receipt

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
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

// pieceSize is the number of a message's readers that are read at once.
const pieceSize = 2000

// buffer is a pod's access to the pending reads in Redis. Safe for concurrent use.
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

// grouped are the distinct ids of a batch, in the order of their first occurrence, each with its positions in the batch.
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

// add stores reads, in one round trip, or two on a cluster.
func (b *buffer) add(ctx context.Context, batch []*due) ([]stored, error) {
	var messages, readers grouped
	for i, r := range batch {
		if r.receipt {
			messages.add(r.messageID, i)
		}
		if r.marker {
			readers.add(r.userID, i)
		}
	}
	// The indexes come first: a batch that is in no index would never be flushed.
	touches := b.touch(b.touch(nil, rediskey.DirtyMessages, messages.ids), rediskey.DirtyReaders, readers.ids)
	if b.keys.Tagged { // two pipelines, because the nodes of a cluster execute their parts of one pipeline at the same time
		if _, err := runAll(ctx, b.rdb, touches); err != nil {
			return nil, fmt.Errorf("touch dirty ids: %w", err)
		}
		touches = nil
	}
	cmds, err := runAll(ctx, b.rdb, append(touches, b.additions(batch, &messages, &readers)...))
	if err != nil {
		return nil, fmt.Errorf("keep reads in redis: %w", err)
	}
	return storedBy(cmds[len(touches):], batch, &messages, &readers)
}

// additions are the calls that add reads to their messages' batches and move their readers' markers, in the order of storedBy.
func (b *buffer) additions(batch []*due, messages, readers *grouped) []redisconn.Call {
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

// storedBy reads the results of reads from the replies to additions.
func storedBy(cmds []*redis.Cmd, batch []*due, messages, readers *grouped) ([]stored, error) {
	out := make([]stored, len(batch))
	for i, r := range batch {
		out[i].due = r
	}
	for n, m := range messages.ids {
		answer, err := cmds[n].Int64Slice()
		if err != nil || len(answer) != 1+len(messages.places[m]) {
			return nil, fmt.Errorf("read a reply of read.lua: %v, %w", answer, err)
		}
		for k, i := range messages.places[m] {
			out[i].fresh = answer[1+k] == 1
		}
	}
	for n, u := range readers.ids {
		answer, err := cmds[len(messages.ids)+n].Int64Slice()
		if err != nil || len(answer) != len(readers.places[u]) {
			return nil, fmt.Errorf("read a reply of mark.lua: %v, %w", answer, err)
		}
		for k, i := range readers.places[u] {
			out[i].moved = batch[i].seq > answer[k]
		}
	}
	return out, nil
}

// runAll runs scripts in one pipeline. It returns the first error, of the pipeline or of a script.
func runAll(ctx context.Context, rdb redis.UniversalClient, calls []redisconn.Call) ([]*redis.Cmd, error) {
	cmds, err := redisconn.RunScripts(ctx, rdb, calls)
	if err == nil {
		err = redisconn.FirstError(cmds)
	}
	return cmds, err
}

// touch appends the call that touches ids in an index.
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

// markers reads the pending markers of a user, by conversation.
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

// haveReaders reports whether each read's user is among the pending readers of its message.
func (b *buffer) haveReaders(ctx context.Context, reads []*due) (bool, error) {
	_, err := b.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, d := range reads {
			p.ZScore(ctx, b.keys.ReadBatch(d.messageID), d.userID)
		}
		return nil
	})
	if errors.Is(err, redis.Nil) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for pending readers: %w", err)
	}
	return true, nil
}

// tagOf names the field of a reader's hash with the version and time of a conversation's marker (mark.lua).
func tagOf(conversationID string) string { return conversationID + ":v" }

// parseMarker reads a conversation's marker from a reader's hash, and its tag verbatim. Releases before tags wrote none. ok is
// false if the field is not a marker.
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

// readers reads the pending readers of a message, in the order of their reads.
func (b *buffer) readers(ctx context.Context, messageID string) ([]pendingReceipt, error) {
	var out []pendingReceipt
	from := start
	for {
		piece, next, err := readPiece(ctx, b.rdb, b.keys.ReadBatch(messageID), from, forever, pieceSize)
		if err != nil {
			return nil, err
		}
		for _, r := range receiptsOf(messageID, piece) {
			if r.valid() {
				out = append(out, r)
			}
		}
		if next == nil {
			return out, nil
		}
		from = *next
	}
}
