package httpapi

import (
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/gofiber/fiber/v2"

	"github.com/parley-chat/parley/internal/cursor"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/invalid"
	"github.com/parley-chat/parley/internal/jsonbody"
)

// decode reads a request's JSON body into dst and checks it.
func decode(c *fiber.Ctx, dst jsonbody.Checker) error {
	media, _, _ := strings.Cut(c.Get(fiber.HeaderContentType), ";")
	if !strings.EqualFold(strings.TrimSpace(media), fiber.MIMEApplicationJSON) {
		return errUnsupported
	}
	body, err := readBody(c)
	if err != nil {
		return err
	}
	return jsonbody.Decode(body, dst)
}

// pathID reads an id from the path. It returns unknown for a malformed id.
func pathID(c *fiber.Ctx, name string, unknown error) (string, error) {
	v := c.Params(name)
	if !id.Valid(v) {
		return "", unknown
	}
	return strings.Clone(v), nil
}

// pathText reads percent-encoded text from the path. It is a copy: Fiber reuses the buffer, and what a domain is given may be published after
// the answer.
func pathText(c *fiber.Ctx, name string) (string, error) {
	return url.PathUnescape(strings.Clone(c.Params(name)))
}

// queryInt reads an integer from the query, def if it is absent. A value that is not between least and most is a fault.
func queryInt(c *fiber.Ctx, f *invalid.Faults, name string, def, least, most int64) int64 {
	s := c.Query(name)
	if s == "" {
		return def
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < least || n > most {
		f.Add(name, "must be a whole number from %d to %d", least, most)
	}
	return n
}

// page is the part of a list that a client requests.
type page struct {
	after *cursor.Position
	limit int
}

// pageSize is the default number of items of a list, maxPage the largest.
const (
	pageSize = 50
	maxPage  = 100
)

// pageOf reads the query parameters cursor and limit.
func pageOf(c *fiber.Ctx) (page, error) { return pageWith(c, &invalid.Faults{}) }

// pageWith is pageOf for a list with further parameters, whose faults f holds. They are returned together with that of limit, before that of cursor.
func pageWith(c *fiber.Ctx, f *invalid.Faults) (page, error) {
	p := page{limit: int(queryInt(c, f, "limit", pageSize, 1, maxPage))}
	if err := f.Err(); err != nil {
		return page{}, err
	}
	if !c.Context().QueryArgs().Has("cursor") {
		return p, nil
	}
	at, err := cursor.Decode(c.Query("cursor"))
	if err != nil {
		return page{}, err
	}
	p.after = &at
	return p, nil
}

type pagination struct {
	NextCursor *string `json:"nextCursor"`
	HasMore    bool    `json:"hasMore"`
}

type listBody struct {
	Data       any        `json:"data"`
	Pagination pagination `json:"pagination"`
}

// list responds with a page of a list. position returns an item's position; that of the last item becomes the cursor.
func list[T any](c *fiber.Ctx, items []T, hasMore bool, position func(T) cursor.Position) error {
	return c.JSON(listBody{Data: items, Pagination: paginate(items, hasMore, position)})
}

// whole responds with a list that has no further pages.
func whole(c *fiber.Ctx, items any) error { return c.JSON(listBody{Data: items}) }

func paginate[T any](items []T, hasMore bool, position func(T) cursor.Position) pagination {
	p := pagination{HasMore: hasMore}
	if hasMore {
		next := cursor.Encode(position(items[len(items)-1]))
		p.NextCursor = &next
	}
	return p
}

// queryList reads a list from the query, in both forms that clients send: ?ids=a,b and ?ids=a&ids=b.
func queryList(c *fiber.Ctx, name string) []string {
	var out []string
	for _, v := range c.Context().QueryArgs().PeekMulti(name) {
		if len(v) > 0 {
			out = append(out, strings.Split(string(v), ",")...)
		}
	}
	return out
}

// queryLists are the query parameters that are lists, and so may be repeated.
var queryLists = []string{"ids", "userIds"}

// checkQuery refuses a query that repeats any other parameter, because one value would be ignored, and values that are not valid text.
func checkQuery(c *fiber.Ctx) error {
	if len(c.Request().URI().QueryString()) == 0 {
		return nil
	}
	var f invalid.Faults
	seen := map[string]bool{}
	for key, value := range c.Context().QueryArgs().All() {
		name := strings.ToValidUTF8(string(key), "\uFFFD")
		if seen[name] && !slices.Contains(queryLists, name) {
			f.Add(name, "is given twice")
		}
		if !invalid.Storable(string(value)) {
			f.Add(name, "must be UTF-8 without NUL")
		}
		seen[name] = true
	}
	return f.Err()
}
