package rediskey_test

import (
	"testing"

	"github.com/parley-chat/parley/internal/rediskey"
)

func TestNamesArePinned(t *testing.T) {
	t.Parallel()
	for got, want := range map[string]string{
		rediskey.ConversationChannel("a"):                     "parley:conversation:a",
		rediskey.UserChannel("a"):                             "parley:user:a",
		rediskey.SessionsChannel:                              "parley:sessions:ended",
		rediskey.ShardedPodsChannel:                           "parley:pods:sharded",
		rediskey.Sharded("parley:user:a"):                     "parley:user:a",
		rediskey.Sharded(rediskey.PresenceChannel("a")):       "parley:presence:{a}",
		rediskey.Unsharded("parley:presence:{a}"):             "parley:presence:a",
		rediskey.Unsharded(rediskey.ConversationChannel("a")): "parley:conversation:a",
		rediskey.ProbeChannel("a"):                            "parley:probe:a",
		rediskey.Attention("a"):                               "push_active:a",
		rediskey.ProfileStamp("a"):                            "profile_stamp:a",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if id, ok := rediskey.ParseConversationChannel("parley:conversation:a"); !ok || id != "a" {
		t.Error("a conversation's channel does not parse")
	}
	if id, ok := rediskey.ParseUserChannel("parley:user:a"); !ok || id != "a" {
		t.Error("a user's channel does not parse")
	}
	if _, ok := rediskey.ParseUserChannel("parley:conversation:a"); ok {
		t.Error("a conversation's channel parses as a user's")
	}
}
