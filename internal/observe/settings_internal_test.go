package observe

import (
	"math"
	"testing"

	"github.com/parley-chat/parley/internal/testenv"
)

// On a cluster the settings are those of the worst master; one that does not show its settings says nothing about the others.
func TestSettingsOfAClusterAreThoseOfItsWorstMaster(t *testing.T) {
	t.Parallel()
	unknown := math.NaN()
	for _, c := range []struct{ a, b, want float64 }{{1, 1, 1}, {1, 0, 0}, {0, 1, 0}, {unknown, 1, 1}, {0, unknown, 0}, {unknown, unknown, unknown}} {
		if got := worse(c.a, c.b); got != c.want && !(math.IsNaN(got) && math.IsNaN(c.want)) {
			t.Errorf("%v and %v are %v, want %v", c.a, c.b, got, c.want)
		}
	}
	cluster := testenv.RedisCluster(t, 0, "--maxmemory-policy", "noeviction", "--notify-keyspace-events", "Ex")
	rdb := cluster.Client(t)
	if policy, events := settingsOf(t.Context(), rdb); policy != 1 || events != 1 {
		t.Errorf("as it should be: %v, %v", policy, events)
	}
	if err := cluster.Nodes[0].Client(t).ConfigSet(t.Context(), "maxmemory-policy", "allkeys-lru").Err(); err != nil {
		t.Fatal(err)
	}
	if policy, events := settingsOf(t.Context(), rdb); policy != 0 || events != 1 {
		t.Errorf("with one master that drops keys: %v, %v", policy, events)
	}
}
