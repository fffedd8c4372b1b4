package httpapi

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/parley-chat/parley/internal/httpapi/apidoc/apidoctest"
	"github.com/parley-chat/parley/internal/testenv"
)

// reply is a response. problem is its body if that is one.
type reply struct {
	status int
	// closes is set if the server closes the connection after it.
	closes  bool
	header  http.Header
	body    string
	problem problem
}

// fields are the fields of a problem's faults.
func (r *reply) fields() []string {
	var out []string
	for _, f := range r.problem.Errors {
		out = append(out, f.Field)
	}
	return out
}

// said returns the body, or the code and the faulty fields of a problem.
func (r *reply) said() string {
	if r.header.Get("Content-Type") != "application/problem+json" {
		return compacted(r.body)
	}
	p := &r.problem
	if p.Status != r.status || p.RequestID != r.header.Get(headerRequestID) || p.Title != http.StatusText(r.status) || p.Detail == "" {
		return "a problem that contradicts its response: " + r.body
	}
	return problemText([]byte(r.body))
}

var validator = sync.OnceValues(apidoctest.New)

// sendRequest sends a request to a server.
func sendRequest(t testing.TB, s *Server, req *http.Request) *reply {
	t.Helper()
	res, err := s.app.Test(req, -1)
	if err != nil {
		t.Fatal(err)
	}
	r := &reply{status: res.StatusCode, closes: res.Close, header: res.Header, body: testenv.Body(t, res)}
	if r.header.Get("Content-Type") == "application/problem+json" && r.body != "" {
		if err := json.Unmarshal([]byte(r.body), &r.problem); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

// sendDescribed is sendRequest, and checks that the OpenAPI document describes the response.
func sendDescribed(t testing.TB, s *Server, req *http.Request) *reply {
	t.Helper()
	r := sendRequest(t, s, req)
	v, err := validator()
	if err != nil {
		t.Fatal(err)
	}
	path, _, _ := strings.Cut(req.RequestURI, "?")
	if err := v.Response(req.Method, path, r.status, r.header, []byte(r.body)); err != nil && req.Method != http.MethodOptions {
		t.Errorf("the document does not describe the response: %v\n%s", err, r.body)
	}
	return r
}

// problemText returns the code of a problem, and its faulty fields.
func problemText(body []byte) string {
	var p problem
	if err := json.Unmarshal(body, &p); err != nil {
		return err.Error()
	}
	text := p.Code
	for i, f := range p.Errors {
		if i == 0 {
			text += ":"
		}
		text += " " + f.Field
	}
	return text
}

// compacted returns JSON with its keys in order and without spaces, and other text as it is.
func compacted(text string) string {
	var v any
	if json.Unmarshal([]byte(text), &v) != nil {
		return text
	}
	b, err := json.Marshal(v)
	if err != nil {
		return text
	}
	return string(b)
}
