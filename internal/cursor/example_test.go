package cursor_test

import (
	"errors"
	"fmt"
	"time"

	"github.com/parley-chat/parley/internal/cursor"
)

// A page ends at an item. Its position goes to the client as an opaque text, and comes back with the request for the next page.
func Example() {
	last := cursor.Position{
		Time: time.Date(2026, 11, 23, 10, 0, 0, 123456000, time.UTC),
		ID:   "019ab2c3-0000-7000-8000-0000000000d0",
	}
	next := cursor.Encode(last)
	fmt.Println(next)

	p, err := cursor.Decode(next)
	fmt.Println(p.ID, p.Time.Format(cursor.TimeFormat), err)

	_, err = cursor.Decode("page 2")
	fmt.Println(errors.Is(err, cursor.ErrMalformed))
	// Output:
	// WyIyMDI2LTExLTIzVDEwOjAwOjAwLjEyMzQ1NloiLCIwMTlhYjJjMy0wMDAwLTcwMDAtODAwMC0wMDAwMDAwMDAwZDAiXQ
	// 019ab2c3-0000-7000-8000-0000000000d0 2026-11-23T10:00:00.123456Z <nil>
	// true
}
