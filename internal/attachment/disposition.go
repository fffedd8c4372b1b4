package attachment

import (
	"strings"
	"unicode"
)

// disposition returns the Content-Disposition of a download (RFC 6266), with the name in ASCII for old clients and the full name. It replaces
// separators of paths, and characters that change the direction of text, because they can make a name look like another one.
func disposition(contentType, filename string) string {
	kind := "attachment"
	if shown(contentType) {
		kind = "inline"
	}
	name := strings.Map(func(r rune) rune {
		switch {
		case r == '/' || r == '\\' || r == unicode.ReplacementChar, unicode.IsControl(r), unicode.Is(unicode.Bidi_Control, r):
			return '_'
		}
		return r
	}, filename)
	ascii := strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || r == '"' || r == '%' {
			return '_'
		}
		return r
	}, name)
	out := kind + `; filename="` + ascii + `"`
	if ascii != name {
		out += "; filename*=UTF-8''" + percentEncode(name)
	}
	return out
}

// percentEncode percent-encodes the bytes that are not an attr-char of RFC 8187.
func percentEncode(s string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("!#$&+-.^_`|~", c) >= 0 {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('%')
		b.WriteByte(hex[c>>4])
		b.WriteByte(hex[c&15])
	}
	return b.String()
}
