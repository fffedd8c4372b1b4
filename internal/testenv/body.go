package testenv

import (
	"io"
	"net/http"
	"testing"
)

// Body reads a response's body to its end and closes it.
func Body(t testing.TB, res *http.Response) string {
	t.Helper()
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("read a response: %v", err)
	}
	return string(b)
}
