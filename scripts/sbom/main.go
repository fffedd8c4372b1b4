// Command sbom prints a bill of materials, in CycloneDX's JSON, of binaries that Go built: the modules that are linked into them, as
// the binaries themselves record them. The same binaries give the same bytes.
//
//	go run ./scripts/sbom NAME VERSION BINARY...
package main

import (
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// The parts of CycloneDX 1.5 that are used.
type (
	bom struct {
		Format       string       `json:"bomFormat"`
		Spec         string       `json:"specVersion"`
		Serial       string       `json:"serialNumber"`
		Version      int          `json:"version"`
		Metadata     metadata     `json:"metadata"`
		Components   []component  `json:"components"`
		Dependencies []dependency `json:"dependencies"`
	}
	metadata struct {
		Component component `json:"component"`
	}
	component struct {
		Ref        string     `json:"bom-ref"`
		Type       string     `json:"type"`
		Name       string     `json:"name"`
		Version    string     `json:"version"`
		Purl       string     `json:"purl,omitempty"`
		Hashes     []hash     `json:"hashes,omitempty"`
		Properties []property `json:"properties,omitempty"`
	}
	hash struct {
		Alg     string `json:"alg"`
		Content string `json:"content"`
	}
	property struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	}
	dependency struct {
		Ref       string   `json:"ref"`
		DependsOn []string `json:"dependsOn"`
	}
)

func main() {
	if len(os.Args) < 4 {
		fmt.Fprintln(os.Stderr, "usage: sbom NAME VERSION BINARY...")
		os.Exit(2)
	}
	b, err := describe(os.Args[1], os.Args[2], os.Args[3:])
	if err == nil {
		out := json.NewEncoder(os.Stdout)
		out.SetIndent("", "  ")
		out.SetEscapeHTML(false)
		err = out.Encode(b)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "sbom:", err)
		os.Exit(1)
	}
}

// describe reads the binaries. Each is a component that depends on the modules linked into it.
func describe(name, version string, binaries []string) (*bom, error) {
	root := component{Ref: "parley", Type: "application", Name: name, Version: version}
	out := &bom{Format: "CycloneDX", Spec: "1.5", Version: 1, Metadata: metadata{root}}
	modules := map[string]component{}
	all := sha256.New()
	var programs []string
	for _, file := range binaries {
		program, linked, err := read(file, version)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		all.Write([]byte(program.Hashes[0].Content))
		programs = append(programs, program.Ref)
		out.Components = append(out.Components, program)
		maps.Copy(modules, linked)
		out.Dependencies = append(out.Dependencies, dependency{program.Ref, slices.Sorted(maps.Keys(linked))})
	}
	out.Dependencies = append(out.Dependencies, dependency{root.Ref, programs})
	for _, ref := range slices.Sorted(maps.Keys(modules)) {
		out.Components = append(out.Components, modules[ref])
	}
	s := hex.EncodeToString(all.Sum(nil)[:16])
	// A UUID of version 8, made of what is described instead of at random.
	out.Serial = fmt.Sprintf("urn:uuid:%s-%s-8%s-8%s-%s", s[:8], s[8:12], s[13:16], s[17:20], s[20:32])
	return out, nil
}

// read returns a binary's component, and the modules that are linked into it by their package URLs.
func read(file, version string) (component, map[string]component, error) {
	info, err := buildinfo.ReadFile(file)
	if err != nil {
		return component{}, nil, err
	}
	sum, err := fileHash(file)
	if err != nil {
		return component{}, nil, err
	}
	platform := map[string]string{}
	for _, s := range info.Settings {
		platform[s.Key] = s.Value
	}
	name := filepath.Base(file)
	ref := strings.Join([]string{name, platform["GOOS"], platform["GOARCH"]}, "-")
	program := component{Ref: ref, Type: "application", Name: name, Version: version, Hashes: []hash{{"SHA-256", sum}}, Properties: []property{
		{"platform", platform["GOOS"] + "/" + platform["GOARCH"]}, {"go", info.GoVersion}, {"package", info.Path},
	}}
	linked := map[string]component{}
	std := component{Type: "library", Name: "stdlib", Version: strings.TrimPrefix(info.GoVersion, "go"), Purl: "pkg:golang/stdlib@" + strings.TrimPrefix(info.GoVersion, "go")}
	std.Ref = std.Purl
	linked[std.Ref] = std
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		purl := "pkg:golang/" + strings.ReplaceAll(url.PathEscape(m.Path), "%2F", "/") + "@" + url.PathEscape(m.Version)
		c := component{Ref: purl, Type: "library", Name: m.Path, Version: m.Version, Purl: purl}
		if m.Sum != "" {
			c.Properties = []property{{"go.sum", m.Sum}}
		}
		linked[purl] = c
	}
	if len(linked) == 1 {
		return component{}, nil, errors.New("it records no modules")
	}
	return program, linked, nil
}

func fileHash(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
