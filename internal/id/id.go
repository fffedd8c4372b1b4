// Package id makes and checks the identifiers of users, sessions, conversations and messages: UUIDv7, lower case.
package id

import "github.com/google/uuid"

// Len is the length of an identifier in bytes.
const Len = 36

// New makes an identifier.
func New() string { return uuid.Must(uuid.NewV7()).String() }

// Valid reports whether s is an identifier as Parley writes it: canonical, lower case, version 7.
func Valid(s string) bool {
	if len(s) != Len || s[14] != '7' {
		return false
	}
	for i := range len(s) {
		c := s[i]
		switch i {
		case 8, 13, 18, 23:
			if c != '-' {
				return false
			}
		default:
			if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
				return false
			}
		}
	}
	return true
}
