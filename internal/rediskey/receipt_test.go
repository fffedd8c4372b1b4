package rediskey_test

import (
	"testing"

	"github.com/parley-chat/parley/internal/rediskey"
)

func TestReceiptNamesArePinned(t *testing.T) {
	t.Parallel()
	plain, tagged := rediskey.Receipts{}, rediskey.Receipts{Tagged: true}
	for got, want := range map[string]string{
		plain.ReadBatch(anna):    "read_batch:" + anna,
		tagged.ReadBatch(anna):   "read_batch:{" + anna + "}",
		plain.ReadCount(anna):    "read_count:" + anna,
		tagged.ReadCount(anna):   "read_count:{" + anna + "}",
		plain.ReadMarkers(anna):  "read_markers:" + anna,
		tagged.ReadMarkers(anna): "read_markers:{" + anna + "}",
		rediskey.DirtyMessages:   "read_dirty_messages",
		rediskey.DirtyReaders:    "read_dirty_readers",
		rediskey.FlushLease:      "read_flush_lease",
		rediskey.ReadProbe:       "read_probe",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
