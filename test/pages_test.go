package test

import (
	"net/url"
	"testing"
)

// everyPage reads a list from its first page to its last. path has a query already, such as the limit. A page has a cursor if more follow, and
// no other page has one.
func everyPage[T any](t testing.TB, p *pod, token, path string) (all []T) {
	t.Helper()
	for cursor := ""; ; {
		var page struct {
			Data       []T
			Pagination struct {
				NextCursor *string
				HasMore    bool
			}
		}
		a := p.want(t, 200, token, "GET", path+cursor, nil)
		a.into(t, &page)
		all = append(all, page.Data...)
		next := page.Pagination.NextCursor
		if page.Pagination.HasMore != (next != nil) {
			t.Fatalf("%s: a page must have a cursor if more follow, and only then: %s", path, a.body)
		}
		if next == nil {
			return all
		}
		cursor = "&cursor=" + url.QueryEscape(*next)
	}
}

// expectInvalidCursor checks that a list refuses a cursor that it did not make.
func (p *pod) expectInvalidCursor(t testing.TB, token, list, cursor string) {
	t.Helper()
	p.call(t, token, "GET", list+"?cursor="+url.QueryEscape(cursor), nil).check(t, list+" with the cursor "+cursor[:min(len(cursor), 60)], 400, "invalid_cursor")
}
