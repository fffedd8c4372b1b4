package postgres

import "strings"

// IDArray encodes ids as the literal of an array. It is for parameters that are arrays of lists: Postgres can't unnest an array of arrays list by
// list, so each list is passed as a text.
func IDArray(ids []string) string { return "{" + strings.Join(ids, ",") + "}" }

// ParseIDArray decodes an array of ids in the form that Postgres writes.
func ParseIDArray(s string) []string {
	s = strings.Trim(s, "{}")
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}
