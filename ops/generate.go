// Package ops holds what on-call has: dashboards, made by build, and rules. Its tests hold them together with the runbooks.
package ops

//go:generate go run ./build dashboards
