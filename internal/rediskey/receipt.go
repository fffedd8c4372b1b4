package rediskey

// The indexes of pending reads: dirty ids by the time of the last touch, in milliseconds. They are hints, written before the data
// that they point to.
const (
	// DirtyMessages are the messages that have a ReadBatch.
	DirtyMessages = "read_dirty_messages"
	// DirtyReaders are the users who have ReadMarkers.
	DirtyReaders = "read_dirty_readers"
)

// FlushLease is held by the worker that flushes.
const FlushLease = "read_flush_lease"

// ReadProbe is written to find out whether Redis accepts writes again.
const ReadProbe = "read_probe"

// ReadMarkersEpoch holds the last epoch of the database for which pending markers were moved back.
const ReadMarkersEpoch = "read_markers_epoch"

// Receipts builds the keys of reads that Postgres does not have yet. On a cluster they are tagged, so that those of one
// message share a slot.
type Receipts struct {
	Tagged bool
}

func (r Receipts) tag(id string) string {
	if r.Tagged {
		return "{" + id + "}"
	}
	return id
}

// ReadBatch is the sorted set of a message's pending readers, by the time of their first read in milliseconds.
func (r Receipts) ReadBatch(messageID string) string { return "read_batch:" + r.tag(messageID) }

// ReadCount is how many they are.
func (r Receipts) ReadCount(messageID string) string { return "read_count:" + r.tag(messageID) }

// ReadMarkers is the hash of how far a user has read, a seq by conversation.
func (r Receipts) ReadMarkers(userID string) string { return "read_markers:" + r.tag(userID) }
