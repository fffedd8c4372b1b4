// Package apidoc holds the OpenAPI document of REST and the AsyncAPI document of the socket. Both are written by hand, in YAML.
package apidoc

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"sync"

	"go.yaml.in/yaml/v3"
)

//go:embed openapi.yaml
var openapi []byte

//go:embed asyncapi.yaml
var asyncapi []byte

// JSON returns the OpenAPI document as JSON.
func JSON() ([]byte, error) { return openapiJSON() }

// AsyncJSON returns the AsyncAPI document as JSON.
func AsyncJSON() ([]byte, error) { return asyncapiJSON() }

// Sources returns both documents as they are written, in YAML: generators keep the order of their members.
func Sources() (rest, socket []byte) { return openapi, asyncapi }

var (
	openapiJSON  = sync.OnceValues(func() ([]byte, error) { return toJSON("openapi.yaml", openapi, finish) })
	asyncapiJSON = sync.OnceValues(func() ([]byte, error) { return toJSON("asyncapi.yaml", asyncapi, nil) })
)

func toJSON(name string, source []byte, change func(doc any)) ([]byte, error) {
	var doc any
	if err := yaml.Unmarshal(source, &doc); err != nil {
		return nil, fmt.Errorf("parse %s: %w", name, err)
	}
	if change != nil {
		change(doc)
	}
	b, err := json.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", name, err)
	}
	return b, nil
}
