package test

import (
	"encoding/json"
	"net/http"
	"os"
	"reflect"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/client"
	"github.com/parley-chat/parley/internal/testenv"
)

// crowdSize is how many people react: PARLEY_TEST_CROWD if that is set (5000 is the promise, which wants a machine of its own).
func crowdSize(t *testing.T) int {
	t.Helper()
	v := os.Getenv("PARLEY_TEST_CROWD")
	if v == "" {
		return 200
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

type reactionCount struct {
	Reaction string
	Count    int
}

type reactedFrame struct {
	MessageID string
	Revision  int64
	Reactions []reactionCount
}

// react has each user react to the message over the pods in turn, all at once, and returns how long that took.
func (s *system) react(t *testing.T, users []user, messageID string) time.Duration {
	t.Helper()
	c := &http.Client{Timeout: time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: len(users)}}
	defer c.CloseIdleConnections()
	var wg sync.WaitGroup
	begun := time.Now()
	for i, u := range users {
		wg.Go(func() {
			pod := client.Server{Base: s.pods[i%2].url, Token: u.token, HTTP: c}
			if err := pod.Call(t.Context(), "PUT", "/messages/"+messageID+"/reactions/"+[]string{"a", "b", "c", "d"}[i%4], nil, nil); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	return time.Since(begun)
}

// crowdReactions is what came of a crowd's reactions to one message.
type crowdReactions struct {
	took      time.Duration
	sent      message
	Revision  int64
	Reactions []reactionCount
}

// most is how many revisions and frames there may be: a machine that took longer than 2 s saw more of them, each pod at most four a second.
func (c *crowdReactions) most() int {
	if c.took <= 2*time.Second {
		return 20
	}
	return 20 + int(c.took/(250*time.Millisecond))*2
}

// exact checks that a quarter of the people are counted for each of a, b, c and d.
func (c *crowdReactions) exact(t *testing.T, people int) {
	t.Helper()
	if len(c.Reactions) != 4 {
		t.Errorf("%d reactions are counted", len(c.Reactions))
	}
	for i, r := range c.Reactions {
		if r.Count != (people+3-int(r.Reaction[0]-'a'))/4 {
			t.Errorf("reaction %d is %+v", i, r)
		}
	}
	if n := int(c.Revision - c.sent.Revision); n > c.most() {
		t.Errorf("%d revisions in %s", n, c.took)
	}
}

// heard reads the frames of a socket up to the last revision. They are few, their revisions ascend, and the last has the counts of Postgres.
func (c *crowdReactions) heard(t *testing.T, sock *socket) (frames int) {
	t.Helper()
	for last := (reactedFrame{}); last.Revision < c.Revision; {
		f := sock.until("message:reacted", time.Minute)
		frames++
		before := last.Revision
		last = reactedFrame{}
		if err := json.Unmarshal(f.Data, &last); err != nil || last.MessageID != c.sent.ID || last.Revision <= before {
			t.Fatalf("heard %s after %d", f.Data, before)
		}
		if last.Revision == c.Revision && !reflect.DeepEqual(last.Reactions, c.Reactions) {
			t.Errorf("the last frame has %+v, Postgres %+v", last.Reactions, c.Reactions)
		}
	}
	if frames > c.most() {
		t.Errorf("%d frames in %s", frames, c.took)
	}
	return frames
}

// A crowd reacts to one message over two pods: the counts are exact, revisions and frames are few, and the last frame is what Postgres has.
// So it is if Redis is unavailable meanwhile, once it is back.
func TestACrowdReactsOverTwoPods(t *testing.T) {
	t.Parallel()
	if testenv.Engine() != "" {
		t.Skip("stops a Redis of its own")
	}
	s := start(t, 2, "PARLEY_RATE_LIMIT_REACT=off", "PARLEY_RATE_LIMIT_SERVER=off", "PARLEY_CONNECTIONS_PER_ADDRESS=off")
	users := s.withTokens(t, crowdSize(t))
	members := make([]anyJSON, len(users))
	for i, u := range users {
		members[i] = anyJSON{"user": u.ID}
	}
	var g conversation
	s.pods[0].want(t, 201, s.createKey(t, "back end", "conversations"), "PUT", "/api/server/conversations/ext:crowd", anyJSON{"name": "a crowd", "members": members}).into(t, &g)
	socks := []*socket{s.pods[0].open(t, users[0]), s.pods[1].open(t, users[1])}
	round := func(name string, fault, over func()) {
		t.Run(name, func(t *testing.T) {
			c := crowdReactions{sent: s.pods[0].send(t, users[0], g.ID, "who likes this?")}
			fault()
			c.took = s.react(t, users, c.sent.ID)
			over()
			s.pods[1].want(t, 200, users[0].token, "GET", "/api/messages/"+c.sent.ID, nil).into(t, &c)
			c.exact(t, len(users))
			begun := time.Now()
			for _, sock := range socks {
				frames := c.heard(t, sock)
				t.Logf("%d people in %s: %d revisions, %d frames, right %s later", len(users), c.took, c.Revision-c.sent.Revision, frames, time.Since(begun))
			}
		})
	}
	nothing := func() {}
	round("with Redis", nothing, nothing)
	round("while Redis is unavailable", s.redis.Stop, s.redis.Start)
}
