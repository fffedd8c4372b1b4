package realtime

// Close codes that Parley uses. Closings has their meanings.
const (
	CloseGoingAway   = 1012
	CloseTooLarge    = 1009
	CloseBadFrame    = 4400
	CloseSessionOver = 4401
	CloseBarred      = 4403
	CloseTooSlow     = 4408
	CloseReplaced    = 4409
	CloseTooMany     = 4429
	// CloseInternal is for a socket whose handler panicked, CloseTryAgain for one that cannot be served now.
	CloseInternal = 1011
	CloseTryAgain = 1013
	// CloseAbnormal is never sent. In metrics it means a connection that ended without a close frame.
	CloseAbnormal = 1006
)

// Closing is one way in which a server ends a socket. docs/events.md shows the table (TestTheDocumentationShowsTheClosings), and
// the metric websocket_connections_closed_total has its codes and reasons.
type Closing struct {
	Code int
	// Reason is the label in metrics, Text the reason in the close frame.
	Reason, Text string
	// Meaning and Advice are for the documentation.
	Meaning, Advice string
}

// Closings are all ways in which a server ends a socket, in the order of the documentation.
var Closings = []Closing{
	{CloseGoingAway, "drain", "the pod goes away", "the pod is shutting down", "reconnect after a random time of up to a few seconds"},
	{CloseTryAgain, "unavailable", "try again later", "the socket could not be served now", "the same"},
	{CloseInternal, reasonPanic, "internal error", "an internal error", "reconnect, `sync`"},
	{CloseTooLarge, "too_large", "the frame is too large", "a frame was too large", "fix the client"},
	{CloseBadFrame, "bad_frame", "frames are JSON objects with a type", "not a frame: binary, or not a JSON object with a string `type`", "fix the client"},
	{CloseSessionOver, "session_over", "the session is over", "the session or the external token has ended", "log in, or reconnect with a new token"},
	{CloseBarred, "barred", "the user is banned or deactivated", "the user is banned or deactivated", "nothing; `until` of the 403 says for how long"},
	{CloseTooSlow, reasonQueueFull, "too slow", "too slow: more was queued for the socket than the server keeps", "reconnect, `sync`"},
	{CloseReplaced, "replaced", "replaced by a newer socket", "a newer socket of the same user replaced this one, the oldest", "nothing"},
	{CloseTooMany, "too_many_frames", "too many frames", "too many frames", "slow down, reconnect"},
}

var closings = func() map[int]Closing {
	m := make(map[int]Closing, len(Closings))
	for _, c := range Closings {
		m[c.Code] = c
	}
	return m
}()

// Further reasons for the end of a socket, for metrics.
const (
	reasonQueueFull    = "queue_full"    // with CloseTooSlow
	reasonWriteTimeout = "write_timeout" // with CloseTooSlow
	reasonPanic        = "panic"         // with CloseInternal, or CloseAbnormal if writing panicked
	reasonWriteError   = "write_error"   // with CloseAbnormal, as are the next two
	reasonSilent       = "silent"
	reasonLost         = "lost"
	reasonPeer         = "peer" // with the peer's code
)

// TextOf returns the reason in a close frame with a code of Closings.
func TextOf(code int) string { return closings[code].Text }
