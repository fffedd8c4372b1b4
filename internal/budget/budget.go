// Package budget bounds the memory that clients make a process hold: in all, and for each of the owners that share it.
//
// It counts memory that a client can make large and keep: bodies that arrive slowly, responses and frames that are not read. Memory that is
// small and bounded by the number of connections is not counted. A caller that is refused memory has to return 503 or to close
// the connection, so that the others keep theirs.
package budget

import (
	"math"
	"runtime/debug"
	"sync"
)

const (
	// least and most bound a process's budget in bytes; unlimited is the one of a process without a memory limit.
	least     = 32 << 20
	most      = 1 << 30
	unlimited = 256 << 20
	// Share is what one owner may hold in bytes. A page of a hundred messages has 3.2 MiB at most, a sync's answer 1 MiB.
	Share = 8 << 20
)

// Budget counts bytes by owner. Its methods may be called from any goroutine.
type Budget struct {
	total, share int64

	mu   sync.Mutex // guards the following fields
	used int64
	by   map[string]int64
}

// New makes a budget of total bytes, of which one owner has share at most.
func New(total, share int64) *Budget {
	return &Budget{total: total, share: share, by: map[string]int64{}}
}

// OfProcess makes the budget of this process: a quarter of Go's memory limit, which follows the container's.
func OfProcess() *Budget {
	limit := debug.SetMemoryLimit(-1)
	if limit == math.MaxInt64 {
		return New(unlimited, Share)
	}
	return New(min(max(limit/4, least), most), Share)
}

// Take reserves n bytes for an owner. It returns false, and reserves nothing, if that were more than the owner's share or
// than the budget has left.
func (b *Budget) Take(owner string, n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.used+n > b.total || b.by[owner]+n > b.share {
		return false
	}
	b.used += n
	b.by[owner] += n
	return true
}

// Give returns n bytes that the owner took before.
func (b *Budget) Give(owner string, n int64) {
	if n == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used -= n
	if b.by[owner] -= n; b.by[owner] <= 0 {
		delete(b.by, owner)
	}
}

// Used returns how many bytes are reserved.
func (b *Budget) Used() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used
}

// Total returns how many bytes may be reserved.
func (b *Budget) Total() int64 { return b.total }
