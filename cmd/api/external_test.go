package main

import (
	"testing"

	"github.com/parley-chat/parley/internal/httpapi"
	"github.com/parley-chat/parley/internal/identity"
)

// The edge compares these fields with nil. A nil pointer in them would be taken for an issuer, and every request would panic.
func TestWithoutAnIssuerTheEdgeHasNoExternalIdentity(t *testing.T) {
	t.Parallel()
	var off, on httpapi.Deps
	external{}.addTo(&off)
	if off.Keyset != nil || off.Verifier != nil || off.Identity != nil {
		t.Errorf("without an issuer the edge has %T, %T and %T", off.Keyset, off.Verifier, off.Identity)
	}
	external{&identity.Source{}, &identity.Verifier{}, &identity.Service{}}.addTo(&on)
	if on.Keyset == nil || on.Verifier == nil || on.Identity == nil {
		t.Error("with an issuer the edge has no external identity")
	}
}
