package postgres

import "strings"

// IDArray writes identifiers as the literal of an array, for statements with an array of such lists, which Postgres can't unnest one by one.
func IDArray(ids []string) string { return "{" + strings.Join(ids, ",") + "}" }

// ParseIDArray reads an array of identifiers as Postgres writes it.
func ParseIDArray(s string) []string {
	s = strings.Trim(s, "{}")
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}
