package redisconn_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/redisconn"
	"github.com/parley-chat/parley/internal/testenv"
)

func TestOptions(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		in   redisconn.Config
		want string // addresses, database, user, master, whether TLS; "" for an error
	}{
		"standalone":      {redisconn.Config{URL: "redis://u:p@h:1/3"}, "[h:1] 3 u  false"},
		"the usual port":  {redisconn.Config{URL: "redis://h"}, "[h:6379] 0   false"},
		"TLS":             {redisconn.Config{URL: "rediss://h"}, "[h:6379] 0   true"},
		"a cluster":       {redisconn.Config{URL: "redis://u:p@a:1, b:2,redis://c:3"}, "[a:1 b:2 c:3] 0 u  false"},
		"sentinels":       {redisconn.Config{URL: "redis://a:1/2,b:2", SentinelMaster: "m"}, "[a:1 b:2] 2  m false"},
		"not a URL":       {redisconn.Config{URL: "h:1"}, ""},
		"another scheme":  {redisconn.Config{URL: "http://secret@h"}, ""},
		"cluster with db": {redisconn.Config{URL: "redis://a:1/2,b:2"}, ""},
	} {
		o, err := redisconn.Options(c.in)
		got := ""
		if err == nil {
			got = fmt.Sprint(o.Addrs, o.DB, " ", o.Username, " ", o.MasterName, " ", o.TLSConfig != nil)
			got = strings.ReplaceAll(got, "]", "] ")
			got = strings.Join(strings.Fields(got), " ")
			c.want = strings.Join(strings.Fields(c.want), " ")
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the error shows a secret: %v", name, err)
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q (%v)", name, got, c.want, err)
		}
	}
}

func TestCredentialsBesideTheURL(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		in   redisconn.Config
		want string // Redis's user and password, the sentinels'
	}{
		"none":                   {redisconn.Config{URL: "redis://u:p@h"}, "u p  "},
		"any character":          {redisconn.Config{URL: "redis://h", Username: "a@b", Password: "p@s#/"}, "a@b p@s#/  "},
		"instead of the URL's":   {redisconn.Config{URL: "redis://u:p@h", Password: "q"}, "u q  "},
		"sentinels, one for all": {redisconn.Config{URL: "redis://u:p@h", SentinelMaster: "m"}, "u p u p"},
		"sentinels without any":  {redisconn.Config{URL: "redis://h", Password: "q", SentinelMaster: "m"}, " q  "},
		"sentinels, one each":    {redisconn.Config{URL: "redis://:p@h", Password: "q", SentinelMaster: "m"}, " q  p"},
	} {
		o, err := redisconn.Options(c.in)
		if err != nil {
			t.Fatal(err)
		}
		if got := o.Username + " " + o.Password + " " + o.SentinelUsername + " " + o.SentinelPassword; got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// The connections are there before anybody asks for them.
func TestThePoolIsFullBeforeTheFirstBurst(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	rdb, err := redisconn.Open(redisconn.Config{URL: server.URL(), PoolSize: 12})
	if err != nil {
		t.Fatal(err)
	}
	defer rdb.Close()
	looks := server.Client(t)
	testenv.Eventually(t, time.Minute, func() bool {
		return strings.Contains(looks.Info(t.Context(), "clients").Val(), "connected_clients:13\r")
	}, "all connections are open, beside the one that looks")
}
