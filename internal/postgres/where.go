package postgres

import (
	"fmt"
	"strconv"
	"strings"
)

// Where collects the conditions of a query with optional filters, and the query's arguments. The zero value has none.
type Where struct {
	conds []string
	args  []any
}

// Arg adds an argument and returns its placeholder.
func (w *Where) Arg(v any) string {
	w.args = append(w.args, v)
	return "$" + strconv.Itoa(len(w.args))
}

// And adds a condition, in which %s, or %[1]s for the same argument again, stands for the placeholder of each argument.
func (w *Where) And(cond string, args ...any) {
	placeholders := make([]any, len(args))
	for i, a := range args {
		placeholders[i] = w.Arg(a)
	}
	w.conds = append(w.conds, fmt.Sprintf(cond, placeholders...))
}

// SQL returns the conditions joined by AND, "true" if there are none.
func (w *Where) SQL() string {
	if len(w.conds) == 0 {
		return "true"
	}
	return strings.Join(w.conds, " AND ")
}

// Args returns the arguments for all placeholders so far.
func (w *Where) Args() []any { return w.args }
