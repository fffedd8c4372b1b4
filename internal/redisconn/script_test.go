package redisconn_test

import (
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/parley-chat/parley/internal/redisconn"
	"github.com/parley-chat/parley/internal/testenv"
)

func TestScriptsThatRedisDoesNotKnowRunOnceAllTheSame(t *testing.T) {
	t.Parallel()
	rdb := testenv.Redis(t).Client(t)
	known := redis.NewScript(`return redis.call('INCRBY', KEYS[1], ARGV[1])`)
	unknown := redis.NewScript(`return redis.call('INCRBY', KEYS[1], 10 * ARGV[1])`)
	wrong := redis.NewScript(`return redis.call('LPUSH', KEYS[1], 1)`)
	if err := known.Load(t.Context(), rdb).Err(); err != nil {
		t.Fatal(err)
	}
	cmds, err := redisconn.RunScripts(t.Context(), rdb, []redisconn.Call{
		{Script: known, Keys: []string{"k"}, Args: []any{1}},
		{Script: unknown, Keys: []string{"k"}, Args: []any{1}},
		{Script: wrong, Keys: []string{"k"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if v, err := rdb.Get(t.Context(), "k").Int(); err != nil || v != 11 {
		t.Errorf("the counter is %d, %v", v, err)
	}
	if cmds[0].Err() != nil || cmds[1].Err() != nil || cmds[2].Err() == nil {
		t.Errorf("errors %v, %v, %v", cmds[0].Err(), cmds[1].Err(), cmds[2].Err())
	}
	if redisconn.FirstError(cmds) == nil {
		t.Error("the error of one script is lost")
	}
	away := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", MaxRetries: -1, DialerRetries: 1})
	defer away.Close()
	if _, err := redisconn.RunScripts(t.Context(), away, []redisconn.Call{{Script: known}}); err == nil {
		t.Error("no error where there is no Redis")
	}
}
