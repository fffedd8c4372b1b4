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
