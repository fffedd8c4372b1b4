package message

import "time"

// PagingQueries are the statements whose plans a test pins.
var PagingQueries = map[string]struct {
	SQL  string
	Args func(conversationID string, at time.Time, id string) []any
	Cond string
}{
	"history":     {historySQL, func(c string, at time.Time, id string) []any { return []any{c, 50, at, id} }, "ROW(created_at, id) <"},
	"after a seq": {afterSeqSQL, func(c string, _ time.Time, _ string) []any { return []any{c, 50, 100} }, "seq >"},
}

// SendSQL is the statement that stores a batch, whose plan a test pins.
func SendSQL() string { return sendSQL }

// Waiting is how many sends wait for their commit.
func (c *Committer) Waiting() int { return c.waiting() }

// SameLane tells whether sends to two conversations may be in one batch.
func (c *Committer) SameLane(a, b string) bool { return c.lane(a) == c.lane(b) }
