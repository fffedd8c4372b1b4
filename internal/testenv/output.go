package testenv

import (
	"strings"
	"sync"
)

// Output keeps what is written to it, such as a log, and may be read meanwhile. The zero value is empty. It is safe for concurrent use.
type Output struct {
	mu   sync.Mutex
	text strings.Builder
}

// Write implements io.Writer. It never fails.
func (o *Output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(b)
}

// String returns what was written so far.
func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// Count returns how often a text stands in what was written so far.
func (o *Output) Count(text string) int { return strings.Count(o.String(), text) }
