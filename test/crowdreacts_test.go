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
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, s.pods[i%2].url+"/api/messages/"+messageID+"/reactions/"+[]string{"a", "b", "c", "d"}[i%4], nil)
			if err != nil {
				t.Error(err)
				return
			}
			r.Header.Set("Authorization", "Bearer "+u.token)
			res, err := c.Do(r)
			if err != nil {
				t.Error(err)
				return
			}
			_ = res.Body.Close()
			if res.StatusCode != http.StatusOK {
				t.Errorf("a reaction: %d", res.StatusCode)
			}
		})
	}
	wg.Wait()
	return time.Since(begun)
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
	for _, away := range []bool{false, true} {
		m := s.pods[0].send(t, users[0], g.ID, "who likes this?")
		if away {
			s.redis.Stop()
		}
		took := s.react(t, users, m.ID)
		if away {
			s.redis.Start()
		}
		var got struct {
			Revision  int64
			Reactions []reactionCount
		}
		s.pods[1].want(t, 200, users[0].token, "GET", "/api/messages/"+m.ID, nil).into(t, &got)
		for i, r := range got.Reactions {
			if r.Count != (len(users)+3-int(r.Reaction[0]-'a'))/4 || len(got.Reactions) != 4 {
				t.Errorf("reaction %d is %+v", i, r)
			}
		}
		most := 20
		if took > 2*time.Second { // a machine that took longer saw more of them, each pod at most four a second
			most += int(took/(250*time.Millisecond)) * 2
		}
		if n := int(got.Revision - m.Revision); n > most {
			t.Errorf("%d revisions in %s", n, took)
		}
		begun := time.Now()
		for i, sock := range socks {
			frames := 0
			for last := (reactedFrame{}); last.Revision < got.Revision; {
				f := sock.next(time.Minute)
				if f.Type != "message:reacted" {
					continue
				}
				frames++
				before := last.Revision
				last = reactedFrame{}
				if err := json.Unmarshal(f.Data, &last); err != nil || last.MessageID != m.ID || last.Revision <= before {
					t.Fatalf("socket %d: %s after %d", i, f.Data, before)
				}
				if last.Revision == got.Revision && !reflect.DeepEqual(last.Reactions, got.Reactions) {
					t.Errorf("the last frame has %+v, Postgres %+v", last.Reactions, got.Reactions)
				}
			}
			if frames > most {
				t.Errorf("%d frames in %s", frames, took)
			}
			t.Logf("%d people in %s, Redis away: %v: %d revisions, %d frames, right %s later", len(users), took, away, got.Revision-m.Revision, frames, time.Since(begun))
		}
	}
}
