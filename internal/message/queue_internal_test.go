package message

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

func TestQueueKeepsTheOrderOfAConversation(t *testing.T) {
	t.Parallel()
	const conversations, each = 7, 400
	q := newQueue()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var mu sync.Mutex // guards what follows
	got, inHand := map[string]int{}, map[string]int{}
	left := conversations * each
	var workers sync.WaitGroup
	for worker := range committers {
		workers.Go(func() {
			for ctx.Err() == nil {
				batch, _ := q.takeBatch(nil, rand.IntN(2) == 0)
				mu.Lock()
				for _, p := range batch {
					if w, ok := inHand[p.conversationID]; ok && w != worker {
						t.Errorf("%s is in two commits at once", p.conversationID)
					}
					inHand[p.conversationID] = worker
					if want := fmt.Sprint(got[p.conversationID]); p.id != want {
						t.Errorf("%s: %s came for %s", p.conversationID, p.id, want)
					}
					got[p.conversationID]++
					left--
				}
				mu.Unlock()
				if batch == nil {
					select {
					case <-q.moved:
					case <-time.After(time.Millisecond):
					case <-ctx.Done():
					}
					continue
				}
				mu.Lock()
				for _, p := range batch {
					delete(inHand, p.conversationID)
				}
				if left == 0 {
					cancel()
				}
				mu.Unlock()
				q.done(batch)
			}
		})
	}
	for i := range each {
		for c := range conversations {
			if !q.add(&pending{conversationID: fmt.Sprint(c), id: fmt.Sprint(i)}) {
				t.Fatal("full")
			}
		}
		for q.len() > maxQueue/2 {
			<-time.After(time.Millisecond)
		}
	}
	workers.Wait()
	if left != 0 || q.running != 0 || len(q.busy) != 0 {
		t.Errorf("%d were not taken, %d run, %v are busy", left, q.running, q.busy)
	}
}

func TestQueueLetsOneCommitAtATimeUnlessThereIsAReason(t *testing.T) {
	t.Parallel()
	q := newQueue()
	take := func(hurry bool) int {
		batch, again := q.takeBatch(nil, hurry)
		if batch == nil && again <= 0 {
			t.Error("it does not say when to look again")
		}
		return len(batch)
	}
	add := func(conversation string, n int) {
		for range n {
			q.add(&pending{conversationID: conversation})
		}
	}
	add("a", 1)
	if n := take(false); n != 1 {
		t.Fatalf("the first batch has %d", n)
	}
	add("b", maxBatch-1)
	if n := take(false); n != 0 {
		t.Errorf("%d commit beside another batch, and are not a whole one", n)
	}
	add("a", 1)
	if n := take(false); n != maxBatch-1 {
		t.Errorf("%d of a whole batch commit, want all but the one of a conversation that is in hand", n)
	}
	add("c", 1)
	q.since = q.since.Add(-patience)
	if n := take(false); n != 1 {
		t.Errorf("%d commit beside one that takes long, want 1", n)
	}
	add("d", 1)
	if n := take(true); n != 1 {
		t.Errorf("%d commit in a hurry, want 1", n)
	}
	if q.len() != 1 {
		t.Errorf("%d wait, want the one of a", q.len())
	}
}

func TestQueueIsBounded(t *testing.T) {
	t.Parallel()
	q := newQueue()
	for range maxQueue {
		if !q.add(&pending{}) {
			t.Fatal("full too early")
		}
	}
	if q.add(&pending{}) {
		t.Error("it takes more than its bound")
	}
}

// Sends of one lane keep their order over all conversations and commits.
func TestQueueKeepsTheOrderOfALane(t *testing.T) {
	t.Parallel()
	q := newQueue()
	lane := &Lane{}
	add := func(conversation, id string, lane *Lane) *pending {
		p := &pending{conversationID: conversation, id: id, lane: lane}
		q.add(p)
		return p
	}
	take := func() (batch []*pending, ids string) {
		batch, _ = q.takeBatch(nil, true)
		for _, p := range batch {
			ids += p.id
		}
		return batch, ids
	}
	add("a", "1", nil)
	running, _ := take()
	add("a", "2", lane) // waits for the conversation
	add("b", "3", lane) // waits for 2
	add("b", "4", nil)
	others, ids := take()
	if ids != "4" {
		t.Fatalf("%s commit beside a, want 4 alone", ids)
	}
	q.done(others)
	q.done(running)
	add("c", "5", lane)
	mine, ids := take()
	if ids != "235" {
		t.Fatalf("%s commit, want what waits of the lane", ids)
	}
	add("d", "6", lane) // waits for 2, 3 and 5
	if _, ids := take(); ids != "" {
		t.Errorf("%s commits beside those before it", ids)
	}
	q.done(mine)
	if _, ids := take(); ids != "6" {
		t.Errorf("%s commits, want 6", ids)
	}
}
