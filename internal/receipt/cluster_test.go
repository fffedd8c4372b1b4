package receipt_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/parley-chat/parley/internal/rediskey"
	"github.com/parley-chat/parley/internal/testenv"
)

// A cluster of one node refuses keys of different slots as one of many does.
func TestOnACluster(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t, "--cluster-enabled", "yes")
	node := server.Client(t)
	if err := node.ClusterAddSlotsRange(t.Context(), 0, 16383).Err(); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, 10*time.Second, func() bool {
		return strings.Contains(node.ClusterInfo(t.Context()).Val(), "cluster_state:ok")
	}, "the cluster is up")
	cluster := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{server.Addr()}})
	t.Cleanup(func() { _ = cluster.Close() })
	e := newEnvOn(t, server, cluster)
	c, users, messages := fixture(t, e.db.SQL, "group", 21, 10)
	var g sync.WaitGroup
	for _, u := range users[1:] {
		for _, m := range messages {
			g.Go(func() {
				if err := e.service.Read(t.Context(), u, m, ""); err != nil {
					t.Error(err)
				}
			})
		}
	}
	g.Wait()
	if strings.Contains(e.log.String(), "level=WARN") {
		t.Errorf("the log says %s", e.log)
	}
	if n := node.ZCard(t.Context(), "read_batch:{"+messages[0]+"}").Val(); n != 20 {
		t.Errorf("%d readers are in the batch", n)
	}
	page, err := e.service.Receipts(t.Context(), users[0], messages[0], nil, 50)
	if err != nil || page.Count != 20 {
		t.Errorf("%d receipts before the flush, %v", page.Count, err)
	}
	if held := e.service.Markers(t.Context(), users[1]); held[c].Seq != 10 {
		t.Errorf("the marker is at %d before the flush", held[c].Seq)
	}
	e.flush(e.flusherOn(cluster))
	if got := e.count(`SELECT count(*) FROM read_receipts`); got != 200 {
		t.Errorf("%d rows of 200", got)
	}
	e.empty()

	// The nodes of a cluster take their parts of a pipeline at the same time: a batch must not be there without its index.
	_, users, messages = fixture(t, e.db.SQL, "group", 3, 1)
	node.Set(t.Context(), rediskey.DirtyMessages, "no index", 0)
	e.read(users[1], messages[0])
	if n := node.Exists(t.Context(), "read_batch:{"+messages[0]+"}").Val(); n != 0 {
		t.Error("a batch that no index leads to was written")
	}
	if got := e.count(`SELECT count(*) FROM read_receipts WHERE message_id = $1`, messages[0]); got != 1 {
		t.Errorf("%d rows of a read that Redis did not take", got)
	}
}
