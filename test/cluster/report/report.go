// Package report is the report of the load for the cluster's tests.
package report

// Progress begins the lines that report, once a second, the number of sent messages.
const Progress = "sent"

// Load is what came of chatting for a while.
type Load struct {
	Seconds float64 `json:"seconds"`
	// Requests of REST, of which Failed got no answer or one of 400 and above.
	Requests int      `json:"requests"`
	Failed   int      `json:"failed"`
	Failures []string `json:"failures,omitempty"` // the first of them
	// Sent are the messages that were acknowledged; Lost are those of them that Postgres lacks.
	Sent int `json:"sent"`
	// SendP99 and SlowestSend are seconds from the request to its response.
	SendP99     float64 `json:"sendP99Seconds"`
	SlowestSend float64 `json:"slowestSendSeconds"`
	Lost        int     `json:"lost"`
	// Gaps are messages of the history whose seq is not the next one, or that are there twice.
	Gaps int `json:"gaps"`
	// Doubled are messages that one socket got twice, or out of order.
	Doubled int `json:"doubled"`
	// Unseen are messages that somebody got neither live nor by sync.
	Unseen int `json:"unseen"`
	// Features are the reactions, mentions, pins, mutes and edits that were answered; Wrong those of them that are not there in the end.
	Features int      `json:"features,omitempty"`
	Wrong    []string `json:"wrong,omitempty"`
	// Closes are the sockets that were closed, by close code.
	Closes           map[string]int `json:"closes"`
	Reconnects       int            `json:"reconnects"`
	SlowestReconnect float64        `json:"slowestReconnectSeconds"`
}
