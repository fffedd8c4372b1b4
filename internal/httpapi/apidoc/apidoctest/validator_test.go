package apidoctest_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/parley-chat/parley/internal/httpapi/apidoc/apidoctest"
)

const (
	userID  = "019ab2c3-1f00-7abc-8def-0123456789ab"
	user    = `{"id":"` + userID + `","username":"anna","displayName":"Anna","avatarUrl":null}`
	missing = `{"type":"about:blank","title":"Not Found","status":404,"detail":"x","code":"user_not_found","requestId":"r"}`
	bad     = `{"type":"about:blank","title":"Bad Request","status":400,"detail":"x","code":"invalid_request","requestId":"r","errors":[{"field":"f","message":"m"}]}`
)

func validator(t *testing.T) *apidoctest.Validator {
	t.Helper()
	v, err := apidoctest.New()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func answers(media string, more ...string) http.Header {
	h := http.Header{"Content-Type": {media}, "X-Request-Id": {"r"}}
	for i := 0; i+1 < len(more); i += 2 {
		h.Set(more[i], more[i+1])
	}
	return h
}

func TestAnswersNotAsDescribedAreToldOf(t *testing.T) {
	t.Parallel()
	v := validator(t)
	const problem, limit, left, whole = "application/problem+json", "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"
	plain := answers("application/json")
	of := func(s, old, new string) string { return strings.Replace(s, old, new, 1) }
	limited := of(of(of(missing, "404", "429"), "user_not_found", "rate_limited"), `"r"`, `"r","retryAfterSeconds":3`)
	for name, c := range map[string]struct {
		method, path string
		status       int
		header       http.Header
		body         string
		ok           bool
	}{
		"good":                 {"GET", "/api/users/" + userID, 200, plain, user, true},
		"one too many":         {"GET", "/api/users/x", 200, plain, of(user, "{", `{"more":1,`), false},
		"one too few":          {"GET", "/api/users/x", 200, plain, `{"id":"` + userID + `"}`, false},
		"a wrong id":           {"GET", "/api/users/x", 200, plain, of(user, "019ab2c3", "x"), false},
		"a wrong type":         {"GET", "/api/users/x", 200, plain, of(user, "null", "7"), false},
		"a status":             {"GET", "/api/users/x", 418, plain, user, false},
		"literals win":         {"GET", "/api/users/me", 200, plain, user, false}, // the user's own has more
		"no JSON":              {"GET", "/api/users/x", 200, plain, `{`, false},
		"another media":        {"GET", "/api/users/x", 404, plain, missing, false},
		"a head":               {"HEAD", "/api/users/x", 200, plain, "", true},
		"a problem":            {"GET", "/api/users/x", 404, answers(problem), missing, true},
		"another route's code": {"GET", "/api/conversations/x", 404, answers(problem), of(missing, "user_not_found", "message_not_found"), false},
		"another status":       {"GET", "/api/users/x", 404, answers(problem), of(missing, "404", "403"), false},
		"faults":               {"POST", "/api/auth/register", 400, answers(problem), bad, true},
		"no faults":            {"POST", "/api/auth/register", 400, answers(problem), of(bad, `,"errors":[{"field":"f","message":"m"}]`, ""), false},
		"faults of no input":   {"GET", "/api/users/x", 404, answers(problem), of(missing, `"r"`, `"r","errors":[{"field":"f","message":"m"}]`), false},
		"a body of nothing":    {"DELETE", "/api/friends/x", 204, plain, `{}`, false},
		"no request id":        {"GET", "/api/users/x", 200, http.Header{"Content-Type": {"application/json"}}, user, false},
		"a limit":              {"GET", "/api/users/x", 200, answers("application/json", limit, "100", left, "99", whole, "1"), user, true},
		"half a limit":         {"GET", "/api/users/x", 200, answers("application/json", limit, "100"), user, false},
		"a limit in words":     {"GET", "/api/users/x", 200, answers("application/json", limit, "many", left, "99", whole, "1"), user, false},
		"limited":              {"GET", "/api/users/x", 429, answers(problem, "Retry-After", "3"), limited, true},
		"no retry":             {"GET", "/api/users/x", 429, answers(problem), limited, false},
		"nowhere":              {"GET", "/api/nowhere", 404, answers(problem), of(missing, "user_not_found", "not_found"), true},
		"nowhere, with a code": {"GET", "/api/nowhere", 404, answers(problem), missing, false},
		"nowhere, found":       {"GET", "/api/nowhere", 200, plain, user, false},
		"a wrong method":       {"PUT", "/api/users/x", 405, answers(problem), of(of(missing, "404", "405"), "user_not_found", "method_not_allowed"), true},
		"a wrong method, 404":  {"PUT", "/api/users/x", 404, answers(problem), missing, false},
	} {
		if err := v.Response(c.method, c.path, c.status, c.header, []byte(c.body)); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestBodiesNotAsDescribedAreToldOf(t *testing.T) {
	t.Parallel()
	v := validator(t)
	for body, ok := range map[string]bool{
		`{"username":"anna","password":"correct horse"}`:         true,
		`{"username":"anna"}`:                                    false,
		`{"username":"anna","password":"correct horse","age":7}`: false,
		`{"username":"an na","password":"correct horse"}`:        false,
	} {
		if err := v.Request("POST", "/api/auth/register", []byte(body)); (err == nil) != ok {
			t.Errorf("%s: %v", body, err)
		}
	}
	if err := v.Request("GET", "/api/users/me", []byte(`{}`)); err == nil {
		t.Error("a GET may have a body")
	}
}

func TestCodesAreThoseOfTheProblems(t *testing.T) {
	t.Parallel()
	codes := validator(t).Codes()
	for _, c := range []string{"invalid_request", "user_not_found", "wrong_password", "bad_request"} {
		if !slices.Contains(codes, c) {
			t.Errorf("%s is not among %v", c, codes)
		}
	}
}
