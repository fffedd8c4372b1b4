package httpapi

import (
	"slices"
	"testing"

	"github.com/parley-chat/parley/internal/httpapi/apidoc/apidoctest"
)

// Codes that no entry of the table of outcomes has: of faults, and of what is not in the table. unknown_type is of frames alone.
func TestEveryCodeIsDescribedAndTheOtherWayRound(t *testing.T) {
	t.Parallel()
	v, err := apidoctest.New()
	if err != nil {
		t.Fatal(err)
	}
	served := []string{"invalid_request", "internal"}
	for _, o := range outcomes {
		served = append(served, o.code)
	}
	described := append(v.Codes(), "unknown_type")
	for _, c := range served {
		if !slices.Contains(described, c) {
			t.Errorf("%s is not described", c)
		}
	}
	for _, c := range described {
		if !slices.Contains(served, c) {
			t.Errorf("%s is not served", c)
		}
	}
}
