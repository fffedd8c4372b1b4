package conversation

// UnreadSQL is the statement that counts what a user has not read, whose plan a test pins.
func UnreadSQL() string { return unreadSQL }

// PageSQL is the statement that reads the first page of a selection, whose plan a test pins.
func PageSQL(sel Selection) string {
	more, _ := sel.page(nil, 0)
	return stateSQL + more
}

// MembershipsSQL is the statement that reads whose conversations a new socket joins, whose plan a test pins.
const MembershipsSQL = membershipsSQL
