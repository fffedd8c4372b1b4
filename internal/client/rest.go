package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

// AnswerTime is how long a response may take, unless the caller sets another limit.
const AnswerTime = 10 * time.Second

var defaultHTTP = &http.Client{Timeout: AnswerTime}

// Server is a deployment, or one of its pods, as one caller sees it. It is safe for concurrent use.
type Server struct {
	// Base is the address, without /api.
	Base string
	// Token is the access token or server key, "" for an anonymous caller.
	Token string
	// HTTP makes the requests. nil is a client that waits for AnswerTime.
	HTTP *http.Client
}

// Response is a whole response.
type Response struct {
	Status int
	Header http.Header
	Body   []byte
}

// Problem is an RFC 9457 problem: the body of a refused request, or the data of an error frame.
type Problem struct {
	Status            int    `json:"status"`
	Type              string `json:"type"`
	Title             string `json:"title"`
	Detail            string `json:"detail"`
	Code              string `json:"code"` // "" if the response is no problem of Parley's
	RequestID         string `json:"requestId"`
	RetryAfterSeconds int    `json:"retryAfterSeconds"`
	Errors            []struct {
		Field   string `json:"field"`
		Message string `json:"message"`
	} `json:"errors"`
}

// ProblemOf returns the problem that an error is or wraps, nil if there is none.
func ProblemOf(err error) *Problem {
	p, _ := errors.AsType[*Problem](err)
	return p
}

func (p *Problem) Error() string {
	switch {
	case p.Status == http.StatusTooManyRequests:
		return fmt.Sprintf("429 %s: refused as too many, possible again in %d s (PARLEY_RATE_LIMIT_*=off lifts the limits)", p.Code, p.RetryAfterSeconds)
	case p.Code == "":
		return fmt.Sprintf("%d, which is no problem of Parley's: %.200s", p.Status, p.Detail)
	}
	return fmt.Sprintf("%d %s: %s", p.Status, p.Code, p.Detail)
}

// Problem returns what was refused and why, nil for a status below 400.
func (r Response) Problem() *Problem {
	if r.Status < http.StatusBadRequest {
		return nil
	}
	p := &Problem{}
	if err := json.Unmarshal(r.Body, p); err != nil || p.Code == "" {
		*p = Problem{Detail: string(r.Body)}
	}
	p.Status = r.Status
	if p.RetryAfterSeconds == 0 {
		p.RetryAfterSeconds, _ = strconv.Atoi(r.Header.Get("Retry-After")) // 0 if there is none
	}
	return p
}

// Do makes a request and returns the response, whatever its status. The path begins with /. The body is nil, a string that is sent as it
// is, or a value that is sent as JSON. Headers are names, each followed by its value; they replace those that Do sets.
func (s Server) Do(ctx context.Context, method, path string, body any, headers ...string) (Response, error) {
	req, err := s.request(ctx, method, path, body)
	if err != nil {
		return Response{}, err
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	c := s.HTTP
	if c == nil {
		c = defaultHTTP
	}
	res, err := c.Do(req)
	if err != nil {
		return Response{}, fmt.Errorf("no response from %s: %w", s.Base, err)
	}
	defer res.Body.Close()
	var b bytes.Buffer
	if n := res.ContentLength; n > 0 && n < 1<<20 { // one allocation of the right size
		b.Grow(int(n) + bytes.MinRead)
	}
	if _, err := b.ReadFrom(res.Body); err != nil {
		return Response{}, fmt.Errorf("%s %s: %w", method, path, err)
	}
	return Response{res.StatusCode, res.Header, b.Bytes()}, nil
}

func (s Server) request(ctx context.Context, method, path string, body any) (*http.Request, error) {
	var r io.Reader
	if body != nil {
		b, err := Body(body)
		if err != nil {
			return nil, err
		}
		r = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, s.Base+path, r)
	if err != nil {
		return nil, fmt.Errorf("%s is no address of a server: %w", s.Base, err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if s.Token != "" {
		req.Header.Set("Authorization", "Bearer "+s.Token)
	}
	return req, nil
}

// Body returns a body as Do sends it.
func Body(body any) ([]byte, error) {
	if s, ok := body.(string); ok {
		return []byte(s), nil
	}
	return json.Marshal(body)
}

// Call makes a request to a path under /api and decodes the response into out, unless out is nil or the response is empty.
// A status of 400 or above is a *Problem.
func (s Server) Call(ctx context.Context, method, path string, in, out any, headers ...string) error {
	r, err := s.Do(ctx, method, "/api"+path, in, headers...)
	if err != nil {
		return err
	}
	if p := r.Problem(); p != nil {
		return fmt.Errorf("%s %s: %w", method, path, p)
	}
	if out == nil || len(r.Body) == 0 {
		return nil
	}
	if err := json.Unmarshal(r.Body, out); err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	return nil
}
