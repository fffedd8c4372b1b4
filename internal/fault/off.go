//go:build !faultpoints

// Package fault defines points in the code at which tests kill or stall a process, or make it panic. They exist only in binaries built with the tag
// faultpoints; in all others a Point does nothing.
package fault

// Point is an instant that a test can name.
func Point(string) {}
