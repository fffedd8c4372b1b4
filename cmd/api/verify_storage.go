package main

import (
	"context"
	"errors"
	"strings"

	"github.com/parley-chat/parley/internal/config"
	"github.com/parley-chat/parley/internal/objectstore"
)

// verifyStorage tries the bucket for files out: credentials, that it is not public, and that pages of the allowed origins can upload.
func verifyStorage(ctx context.Context, c *config.API) error {
	objects, err := objectstore.New(objectstore.Config(c.Storage))
	if err != nil {
		return config.Fault("S3_ENDPOINT", "does not work: %v", err)
	}
	defer objects.Close()
	faults, err := objects.Verify(ctx, pageOrigins(c.AllowedOrigins))
	switch {
	case errors.Is(err, objectstore.ErrRefused), errors.Is(err, objectstore.ErrNotFound):
		return config.Fault("S3_BUCKET", "(or its credentials) does not work: %v", err)
	case err != nil:
		return err
	case len(faults) > 0:
		return config.Fault("S3_BUCKET", "is set up wrongly; it %s", strings.Join(faults, "; it "))
	}
	return nil
}

// pageOrigins returns one possible origin for each allowed origin; a pattern of ports is represented by one port.
func pageOrigins(allowed []string) []string {
	var out []string
	for _, o := range allowed {
		if o == "*" {
			o = "https://example.com"
		}
		out = append(out, strings.Replace(strings.Replace(o, "//*.", "//any.", 1), ":*", ":3000", 1))
	}
	return out
}
