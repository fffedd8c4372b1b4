package main

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"time"
)

// page is how many messages of history are asked for at once.
const page = 50

func prepareReads(ctx context.Context, b *bench) error {
	groups := slices.Collect(slices.Chunk(b.people, b.Members))
	if n := len(groups); n > 1 && len(groups[n-1]) < 3 { // a group has three members
		groups = append(groups[:n-2], slices.Concat(groups[n-2], groups[n-1]))
	}
	if _, err := b.made.groups(ctx, groups, b.Messages); err != nil {
		return err
	}
	return b.connect(ctx, b.people)
}

// reads has each user go through what a client shows, round after round.
func reads(ctx context.Context, b *bench) error {
	ctx, cancel := b.lasting(ctx)
	defer cancel()
	of := map[string]*conversation{}
	for _, c := range b.convs {
		for _, p := range c.members {
			of[p.id] = c
		}
	}
	start := time.Now()
	return b.each(ctx, b.people, func(k int, p *person) error {
		r := reader{p, of[p.id], 0}
		for i := 0; ; i++ {
			intended, err := b.turn(ctx, start, k+i*len(b.people))
			if err == nil {
				err = r.round(ctx, intended)
			}
			if err != nil {
				return err
			}
		}
	})
}

// reader is a user who has read up to a seq.
type reader struct {
	*person
	c    *conversation
	upTo int64
}

// round lists the conversations, pages back, asks for what came after what was read, and reads one message more.
func (r *reader) round(ctx context.Context, intended time.Time) error {
	if err := r.list(ctx, intended); err != nil {
		return err
	}
	if err := r.pageBack(ctx); err != nil {
		return err
	}
	var next messages
	from := r.upTo % r.c.base
	if err := r.get(ctx, "after seq", time.Now(), fmt.Sprintf("/conversations/%s/messages?afterSeq=%d&limit=%d", r.c.id, from, page), &next); err != nil {
		return err
	}
	want := make([]int64, min(page, r.c.base-from))
	for i := range want {
		want[i] = from + int64(i) + 1
	}
	if !r.same("messages after a seq", next.seqs(), want) || len(next.Data) == 0 {
		return nil
	}
	done := make(chan error, 1)
	r.read(next.Data[0].ID, func(err error) { done <- err })
	select {
	case err := <-done:
		r.upTo = max(r.upTo, from+1)
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (r *reader) list(ctx context.Context, intended time.Time) error {
	var l struct {
		Data []struct {
			ID                   string
			LastSeq, UnreadCount int64
		}
	}
	if err := r.get(ctx, "conversations", intended, "/conversations?limit=20", &l); err != nil {
		return err
	}
	if len(l.Data) != 1 || l.Data[0].ID != r.c.id || l.Data[0].LastSeq != r.c.base || l.Data[0].UnreadCount > r.c.base-r.upTo {
		r.b.violations.add("wrong list", "%s: %+v, want %s with %d messages, %d of them unread at most", r.id, l.Data, r.c.id, r.c.base, r.c.base-r.upTo)
	}
	return nil
}

// pageBack reads two pages of history.
func (r *reader) pageBack(ctx context.Context) error {
	newest, cursor := r.c.base, ""
	for range 2 {
		var m messages
		if err := r.get(ctx, "history", time.Now(), fmt.Sprintf("/conversations/%s/messages?limit=%d%s", r.c.id, page, cursor), &m); err != nil {
			return err
		}
		want := make([]int64, min(page, newest))
		for i := range want {
			want[i] = newest - int64(i)
		}
		if !r.same("page", m.seqs(), want) || m.Pagination.NextCursor == "" {
			return nil
		}
		newest, cursor = newest-page, "&cursor="+url.QueryEscape(m.Pagination.NextCursor)
	}
	return nil
}

// messages is an answer of history.
type messages struct {
	Data []struct {
		ID  string
		Seq int64
	}
	Pagination struct{ NextCursor string }
}

func (m *messages) seqs() (out []int64) {
	for _, x := range m.Data {
		out = append(out, x.Seq)
	}
	return out
}

func (r *reader) same(what string, got, want []int64) bool {
	if !slices.Equal(got, want) {
		r.b.violations.add("wrong "+what, "%s in %s: %v, want %v", r.id, r.c.id, got, want)
		return false
	}
	return true
}

// read says that a message is read.
func (p *person) read(messageID string, done func(error)) {
	start := time.Now()
	p.ask("message:read", p.b.frameID(), map[string]string{"messageId": messageID}, func(_ []byte, err error) {
		if err == nil {
			p.b.stats.timings("read").record(p.n, time.Since(start))
			p.b.stats.add("reads", 1)
		}
		done(err)
	})
}

// get asks for something until it is answered, and notes how long that took.
func (p *person) get(ctx context.Context, kind string, intended time.Time, path string, out any) error {
	err := p.b.call(ctx, p, "GET", path, nil, out)
	if err == nil {
		p.b.stats.timings(kind).record(p.n, time.Since(intended))
		p.b.stats.add("requests", 1)
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if p.b.hopeless(err) {
		return err
	}
	p.b.stats.add("failed requests", 1)
	if err := pause(ctx, backoff(1)); err != nil {
		return err
	}
	return p.get(ctx, kind, intended, path, out)
}
