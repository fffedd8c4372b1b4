package cluster

import (
	"context"
	"os"
	"testing"

	"github.com/parley-chat/parley/internal/client"
)

// The chart's own storage starts under the restricted Pod Security Standard, an upgrade's check stores and removes an object in it, and
// the api hands out addresses to upload to.
func TestStorageForDevelopment(t *testing.T) {
	requireCluster(t)
	image := os.Getenv(storageImageVar)
	if image == "" {
		t.Skip("there is no image of the storage")
	}
	n := newNamespace(t, "parley-storage")
	set := []string{"devDependencies.storage.enabled=true", "devDependencies.storage.image=" + image}
	for _, what := range []string{"install", "upgrade"} {
		if r := n.helm(installTime, os.Getenv(imageVar), set...); r.err != nil {
			t.Fatalf("%s: %v: %s", what, r.err, r.out)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	p, err := client.Join(ctx, n.forward("svc/parley-api", 80), "Ana")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	var ticket struct{ URL string }
	if err := p.Call(ctx, "POST", "/uploads", map[string]any{"filename": "a.txt", "contentType": "text/plain", "size": 5}, &ticket); err != nil || ticket.URL == "" {
		t.Errorf("an upload: %+v, %v", ticket, err)
	}
}
