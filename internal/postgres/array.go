package postgres

import "strings"

// IDArray writes identifiers as the literal of an array, for GORM, which would expand a slice into a list.
func IDArray(ids []string) string { return "{" + strings.Join(ids, ",") + "}" }

// ParseIDArray reads an array of identifiers as Postgres writes it.
func ParseIDArray(s string) []string {
	s = strings.Trim(s, "{}")
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}
