package apidoc

import (
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

const problemRef = "#/components/schemas/Problem"

// finish turns the document as it is written into the one that is served, which generators of clients and Swagger UI read
// better: references with siblings become compositions, each problem has examples of its own, and each body has a named schema.
func finish(doc any) {
	root, _ := doc.(map[string]any)
	components, _ := root["components"].(map[string]any)
	responses, _ := components["responses"].(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(responses)) {
		addExamples(responses[name])
	}
	compose(doc)
	typeConstants(doc)
	schemas, _ := components["schemas"].(map[string]any)
	paths, _ := root["paths"].(map[string]any)
	for _, item := range paths {
		operations, _ := item.(map[string]any)
		for _, operation := range operations {
			nameBodies(operation, schemas)
		}
	}
}

// typeConstants gives a constant that is a string its type, without which some generators take it for anything.
func typeConstants(v any) {
	switch v := v.(type) {
	case []any:
		for _, x := range v {
			typeConstants(x)
		}
	case map[string]any:
		for _, x := range v {
			typeConstants(x)
		}
		if _, text := v["const"].(string); text && v["type"] == nil {
			v["type"] = "string"
		}
	}
}

// nameBodies moves the schemas that stand in an operation's bodies to the components, as {Operation}Request and
// {Operation}Result: generators make types with those names of them.
func nameBodies(operation any, schemas map[string]any) {
	o, _ := operation.(map[string]any)
	id, ok := o["operationId"].(string)
	if !ok {
		return
	}
	name := strings.ToUpper(id[:1]) + id[1:]
	nameBody(o["requestBody"], schemas, name+"Request")
	responses, _ := o["responses"].(map[string]any)
	for _, status := range slices.Sorted(maps.Keys(responses)) {
		if strings.HasPrefix(status, "2") {
			nameBody(responses[status], schemas, name+"Result")
		}
	}
}

// nameBody moves a body's schema, unless it is a reference already. A second one with the same name but another shape gets a
// number.
func nameBody(body any, schemas map[string]any, name string) {
	b, _ := body.(map[string]any)
	content, _ := b["content"].(map[string]any)
	media, _ := content["application/json"].(map[string]any)
	schema, ok := media["schema"].(map[string]any)
	if !ok || schema["$ref"] != nil {
		return
	}
	if example, has := media["example"]; has && schema["example"] == nil {
		schema["example"] = example
	}
	unique := name
	for n := 2; schemas[unique] != nil && !reflect.DeepEqual(schemas[unique], any(schema)); n++ {
		unique = name + strconv.Itoa(n)
	}
	schemas[unique] = schema
	media["schema"] = map[string]any{"$ref": "#/components/schemas/" + unique}
}

// compose replaces {$ref, more…} by {allOf: [{$ref}, {more…}]}: what stands beside a $ref is dropped by most generators,
// though JSON Schema 2020-12 allows it.
func compose(v any) {
	switch v := v.(type) {
	case []any:
		for _, x := range v {
			compose(x)
		}
	case map[string]any:
		for _, x := range v {
			compose(x)
		}
		ref, ok := v["$ref"].(string)
		if !ok || len(v) == 1 {
			return
		}
		siblings := maps.Clone(v)
		delete(siblings, "$ref")
		clear(v)
		for _, about := range []string{"description", "example", "deprecated"} {
			if x, has := siblings[about]; has {
				v[about] = x
				delete(siblings, about)
			}
		}
		parts := []any{map[string]any{"$ref": ref}}
		if len(siblings) > 0 {
			if properties, ok := siblings["properties"].(map[string]any); ok {
				siblings["type"] = "object"
				siblings["required"] = required(siblings["required"], properties)
			}
			parts = append(parts, siblings)
		}
		v["allOf"] = parts
	}
}

// required adds the properties that a sibling narrows: they are those of the referenced schema that are always there.
func required(before any, properties map[string]any) []any {
	list, _ := before.([]any)
	for _, name := range slices.Sorted(maps.Keys(properties)) {
		if !slices.Contains(list, any(name)) {
			list = append(list, name)
		}
	}
	return list
}

// addExamples gives a response that is a problem an example for each of its codes.
func addExamples(response any) {
	r, _ := response.(map[string]any)
	content, _ := r["content"].(map[string]any)
	media, _ := content["application/problem+json"].(map[string]any)
	schema, _ := media["schema"].(map[string]any)
	if schema["$ref"] != problemRef || media["examples"] != nil {
		return
	}
	properties, _ := schema["properties"].(map[string]any)
	status, _ := properties["status"].(map[string]any)
	number, ok := status["const"].(int)
	code, _ := properties["code"].(map[string]any)
	codes, _ := code["enum"].([]any)
	if !ok || len(codes) == 0 {
		return
	}
	examples := map[string]any{}
	for _, c := range codes {
		name := fmt.Sprint(c)
		value := map[string]any{
			"type": "about:blank", "title": http.StatusText(number), "status": number, "detail": "what went wrong, for people", "code": name,
			"requestId": "019ab2c3-1f00-7abc-8def-0123456789ab",
		}
		switch name {
		case "invalid_request":
			value["detail"] = "some fields are not valid"
			value["errors"] = []any{map[string]any{"field": "name", "message": "is required"}}
		case "rate_limited":
			value["detail"], value["retryAfterSeconds"] = "too many requests: try again in 12 seconds", 12
		}
		examples[name] = map[string]any{"value": value}
	}
	media["examples"] = examples
}
