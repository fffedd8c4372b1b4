package presence

// PairQueries are the statements over arrays that run each time a socket opens, or an event comes.
var PairQueries = map[string]string{"peers": peersSQL, "visible": visibleSQL}
