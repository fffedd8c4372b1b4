package chat

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Each column of extrasColumn is removed by a deletion.
func TestADeletionRemovesEveryExtra(t *testing.T) {
	t.Parallel()
	for _, m := range regexp.MustCompile(`\bm\.(\w+)`).FindAllStringSubmatch(extrasColumn, -1) {
		if column := m[1]; column != "kind" && !slices.Contains(strings.Split(NoExtras, ", "), column+" = NULL") {
			t.Errorf("NoExtras does not remove %s", column)
		}
	}
}
