// Package clients holds the clients in other languages. What they share with the server is generated.
package clients

//go:generate go test ../internal/httpapi/apidoc/tstypes -count 1 -update
