package chat

import (
	"regexp"
	"slices"
	"testing"
)

// Each column of extrasColumn is removed by a deletion.
func TestADeletionRemovesEveryExtra(t *testing.T) {
	t.Parallel()
	removed := regexp.MustCompile(`,\s*`).Split(NoExtras, -1)
	for _, m := range regexp.MustCompile(`\bm\.(\w+)`).FindAllStringSubmatch(extrasColumn, -1) {
		if column := m[1]; column != "kind" && !slices.Contains(removed, column+" = NULL") {
			t.Errorf("NoExtras does not remove %s", column)
		}
	}
}
