// Package seed fills an empty Parley with people, groups and messages to try it out with. It uses the public API alone: the people
// sign up, and a server key acts for them.
package seed

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/parley-chat/parley/internal/client"
)

// Password is that of every seeded person.
const Password = "correct horse battery"

// doneKey is set in the metadata of the last group once everything is there.
const doneKey = "seeded"

// atOnce is how many messages of the long history are on their way together.
const atOnce = 8

const keyTimeout, keyPause = 15 * time.Second, 200 * time.Millisecond

// Result is what a run made.
type Result struct {
	// Fresh is false if everything was there before.
	Fresh    bool
	People   int
	Messages int
	Took     time.Duration
}

// Seeder fills the Parley at URL. Key is a server key with all scopes.
type Seeder struct {
	URL, Key string
	// History is how many messages the long conversation has beside those that were written for it; 0 means 3,000.
	History int

	ids      map[string]string // of people, by username
	messages int
}

// Run makes what is missing. Every write can be repeated, so a run that was cut off is continued by the next one.
func (s *Seeder) Run(ctx context.Context) (Result, error) {
	begun := time.Now()
	done, err := s.awaitKey(ctx)
	if err != nil || done {
		return Result{People: len(people)}, err
	}
	s.ids = map[string]string{}
	for _, p := range people {
		if s.ids[p.username], err = s.join(ctx, p); err != nil {
			return Result{}, fmt.Errorf("sign up %s: %w", p.username, err)
		}
	}
	if err := s.befriend(ctx); err != nil {
		return Result{}, err
	}
	for _, c := range chats {
		if err := s.fill(ctx, c); err != nil {
			return Result{}, fmt.Errorf("fill %s: %w", c.key, err)
		}
	}
	last := chats[len(chats)-1]
	if err := s.call(ctx, "PATCH", groupPath(last.key), "", map[string]any{"metadata": map[string]any{doneKey: true}}, nil); err != nil {
		return Result{}, err
	}
	return Result{Fresh: true, People: len(people), Messages: s.messages, Took: time.Since(begun)}, nil
}

// People returns the usernames of the seeded people, in the order in which to introduce them.
func People() []string {
	out := make([]string, len(people))
	for i, p := range people {
		out[i] = p.username
	}
	return out
}

func groupPath(key string) string { return "/server/conversations/ext:" + url.PathEscape("seed-"+key) }

// awaitKey returns whether everything is there. A pod may be ready a moment before it knows its first server key.
func (s *Seeder) awaitKey(ctx context.Context) (bool, error) {
	for end := time.Now().Add(keyTimeout); ; {
		done, err := s.done(ctx)
		if status(err) != http.StatusUnauthorized || time.Now().After(end) {
			return done, err
		}
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-time.After(keyPause):
		}
	}
}

func (s *Seeder) done(ctx context.Context) (bool, error) {
	var c struct{ Metadata map[string]any }
	err := s.call(ctx, "GET", groupPath(chats[len(chats)-1].key), "", nil, &c)
	if status(err) == http.StatusNotFound {
		return false, nil
	}
	return c.Metadata[doneKey] == true, err
}

// join signs a person up, or in if they have an account, and returns their id.
func (s *Seeder) join(ctx context.Context, p person) (string, error) {
	var session struct{ User struct{ ID string } }
	account := map[string]any{"username": p.username, "password": Password, "displayName": p.name}
	err := s.call(ctx, "POST", "/auth/register", "nobody", account, &session)
	if status(err) == http.StatusConflict {
		delete(account, "displayName")
		err = s.call(ctx, "POST", "/auth/login", "nobody", account, &session)
	}
	return session.User.ID, err
}

// befriend makes the first person friends with the others, except for the last one, whose request waits.
func (s *Seeder) befriend(ctx context.Context) error {
	first := s.ids[people[0].username]
	for i, p := range people[1:] {
		id := s.ids[p.username]
		err := s.call(ctx, "POST", "/friends/requests", id, map[string]any{"userId": first}, nil)
		if err == nil && i < len(people)-2 {
			err = s.call(ctx, "POST", "/friends/requests/"+id+"/accept", first, nil, nil)
		}
		if err != nil && status(err) != http.StatusConflict { // of an earlier run
			return fmt.Errorf("befriend %s: %w", p.username, err)
		}
	}
	return nil
}

// fill makes a conversation and everything in it.
func (s *Seeder) fill(ctx context.Context, c chat) error {
	id, err := s.open(ctx, c)
	if err != nil {
		return err
	}
	sent := make([]string, len(c.lines))
	if err := s.long(ctx, c, id); err != nil {
		return err
	}
	for i, l := range c.lines {
		if sent[i], err = s.send(ctx, id, fmt.Sprintf("seed-%s-%d", c.key, i), l, sent); err != nil {
			return err
		}
		for _, r := range l.reactions {
			path := "/messages/" + sent[i] + "/reactions/" + url.PathEscape(r.reaction)
			if err := s.call(ctx, "PUT", path, s.ids[r.by], nil, nil); err != nil {
				return err
			}
		}
	}
	for _, name := range c.members {
		upTo := len(sent) - 1
		if name == people[0].username {
			upTo -= c.unread
		}
		if upTo < 0 {
			continue
		}
		if err := s.call(ctx, "POST", "/conversations/"+id+"/read", s.ids[name], map[string]any{"upToMessageId": sent[upTo]}, nil); err != nil {
			return err
		}
	}
	return nil
}

func (s *Seeder) open(ctx context.Context, c chat) (string, error) {
	var made struct{ ID string }
	if c.name == "" {
		body := map[string]any{"type": "direct", "memberIds": []string{s.ids[c.members[1]]}}
		err := s.call(ctx, "POST", "/conversations", s.ids[c.members[0]], body, &made)
		return made.ID, err
	}
	members := make([]map[string]any, len(c.members))
	for i, name := range c.members {
		members[i] = map[string]any{"user": s.ids[name]}
		if i == 0 {
			members[i]["role"] = "owner"
		}
	}
	body := map[string]any{"name": c.name, "members": members}
	if c.posting != "" {
		body["posting"] = c.posting
	}
	err := s.call(ctx, "PUT", groupPath(c.key), "", body, &made)
	return made.ID, err
}

// long sends the chat's long history, whose lines are in no particular order.
func (s *Seeder) long(ctx context.Context, c chat, id string) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(atOnce)
	n := c.history
	if s.History > 0 {
		n = min(n, s.History)
	}
	for i := range n {
		g.Go(func() error {
			l := line{by: c.members[(i*7+i/5)%len(c.members)], text: talk(i)}
			_, err := s.send(ctx, id, fmt.Sprintf("seed-%s-long-%d", c.key, i), l, nil)
			return err
		})
	}
	s.messages += n
	return g.Wait()
}

func (s *Seeder) send(ctx context.Context, conversation, clientID string, l line, sent []string) (string, error) {
	body := map[string]any{"sender": s.ids[l.by], "content": l.text, "clientMessageId": clientID}
	if l.replyTo > 0 {
		body["replyToId"] = sent[l.replyTo-1]
	}
	if l.mentions != "" {
		body["mentions"] = map[string]any{"userIds": []string{s.ids[l.mentions]}}
	}
	if sent != nil {
		s.messages++
	}
	var m struct{ ID string }
	err := s.call(ctx, "POST", "/server/conversations/"+conversation+"/messages", "", body, &m)
	return m.ID, err
}

// status is the one of a refusal, 0 for any other error and for none.
func status(err error) int {
	if p := client.ProblemOf(err); p != nil {
		return p.Status
	}
	return 0
}

var patient = &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: atOnce}}

// call makes a request with the key, for a user unless `as` is empty, or without a key if it is "nobody".
func (s *Seeder) call(ctx context.Context, method, path, as string, in, out any) error {
	caller, headers := client.Server{Base: s.URL, HTTP: patient}, []string(nil)
	if as != "nobody" {
		caller.Token = s.Key
		if as != "" {
			headers = []string{"Parley-User", as}
		}
	}
	return caller.Call(ctx, method, path, in, out, headers...)
}
