package rediskey_test

import (
	"testing"

	"github.com/parley-chat/parley/internal/rediskey"
)

const anna = "019ab2c3-0000-7000-8000-00000000000a"

func TestPresenceNamesArePinned(t *testing.T) {
	t.Parallel()
	plain, tagged := rediskey.Presence{}, rediskey.Presence{Tagged: true}
	for got, want := range map[string]string{
		plain.Device(anna, "phone"):    "presence:" + anna + ":phone",
		tagged.Device(anna, "phone"):   "presence:{" + anna + "}:phone",
		plain.Connections(anna):        "presence_connections:" + anna,
		tagged.Connections(anna):       "presence_connections:{" + anna + "}",
		plain.User(anna):               "presence_user:" + anna,
		tagged.User(anna):              "presence_user:{" + anna + "}",
		rediskey.PresenceDeadlines(3):  "presence_deadlines:3",
		rediskey.PresenceChannel(anna): "parley:presence:" + anna,
		rediskey.ExpiredChannel(2):     "__keyevent@2__:expired",
		rediskey.PresenceEpoch:         "presence_epoch",
		rediskey.PresenceMark(3):       "presence_mark:3",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if n := rediskey.PresenceShard(anna); n < 0 || n >= rediskey.PresenceShards {
		t.Errorf("the shard is %d", n)
	}
	if u, ok := rediskey.ParsePresenceChannel("parley:presence:x"); !ok || u != "x" {
		t.Error("a presence's channel does not parse")
	}
}

func TestOnlyDevicesOfUsersParse(t *testing.T) {
	t.Parallel()
	for key, want := range map[string]bool{
		"presence:" + anna + ":phone": true, "presence:{" + anna + "}:phone": true, "presence:" + anna: false, "presence:" + anna + ":": false,
		"presence:{" + anna + ":phone": false, "presence:someone:phone": false, "session:" + anna + ":phone": false, "presence_user:" + anna: false, "presence:": false,
	} {
		u, d, ok := rediskey.ParseDevice(key)
		if ok != want || ok && (u != anna || d != "phone") {
			t.Errorf("%s: %q, %q, %v", key, u, d, ok)
		}
	}
}
