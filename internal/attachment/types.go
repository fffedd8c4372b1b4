package attachment

import (
	"mime"
	"strings"
)

// DefaultDenied are the types that are refused unless PARLEY_UPLOAD_DENY_TYPES names others: what a browser would run as a page,
// and programs.
var DefaultDenied = []string{
	"text/html", "application/xhtml+xml", "image/svg+xml",
	typePE, "application/x-msdownload", "application/x-dosexec", "application/x-msdos-program", "application/x-msi",
	typeELF, "application/x-elf", "application/x-sharedlib", typeMachO,
	typeScript, "application/x-shellscript", "application/x-csh", "application/x-bat", "application/bat",
	"application/java-archive", "application/vnd.android.package-archive",
}

// The types of programs, as their first bytes show them.
const (
	typePE     = "application/vnd.microsoft.portable-executable"
	typeELF    = "application/x-executable"
	typeMachO  = "application/x-mach-binary"
	typeScript = "application/x-sh"
)

// aliases are other names of types, as browsers and systems write them.
var aliases = map[string]string{
	"image/jpg": "image/jpeg", "image/pjpeg": "image/jpeg", "image/x-png": "image/png", "image/x-ms-bmp": "image/bmp",
	"image/vnd.microsoft.icon": "image/x-icon", "image/heic-sequence": "image/heic", "image/heif-sequence": "image/heif",
	"audio/mp3": "audio/mpeg", "audio/x-mp3": "audio/mpeg", "audio/x-mpeg": "audio/mpeg", "audio/wave": "audio/wav",
	"audio/x-wav": "audio/wav", "audio/vnd.wave": "audio/wav", "audio/m4a": "audio/mp4", "audio/x-m4a": "audio/mp4",
	"audio/x-flac": "audio/flac", "audio/x-aac": "audio/aac", "audio/aacp": "audio/aac", "audio/x-aiff": "audio/aiff",
	"audio/opus": "audio/ogg", "video/x-m4v": "video/mp4", "video/avi": "video/x-msvideo", "video/msvideo": "video/x-msvideo",
	"application/x-pdf": typePDF, "application/x-zip-compressed": "application/zip", "application/x-zip": "application/zip",
}

const typePDF = "application/pdf"

// parseType reads a media type, without its parameters, in lower case and under its usual name.
func parseType(s string) (string, bool) {
	if len(s) > maxType {
		return "", false
	}
	t, _, err := mime.ParseMediaType(s)
	kind, sub, ok := strings.Cut(t, "/")
	if err != nil || !ok || kind == "" || sub == "" || strings.Contains(t, "*") {
		return "", false
	}
	if a, ok := aliases[t]; ok {
		t = a
	}
	return t, true
}

// family is the group of formats with which a file's first bytes are compared.
type family int

const (
	// familyExact must be of the very format that the type names.
	familyExact family = iota
	// familyText must be text.
	familyText
	// familyZip must be a zip container.
	familyZip
	// familyAny may be anything that is no program.
	familyAny
)

func familyOf(t string) family {
	kind, sub, _ := strings.Cut(t, "/")
	switch {
	case kind == "image" || kind == "audio" || kind == "video" || t == typePDF:
		return familyExact
	case kind == "text", strings.HasSuffix(sub, "+json"), strings.HasSuffix(sub, "+xml"), textTypes[sub]:
		return familyText
	case sub == "zip", strings.HasSuffix(sub, "+zip"), strings.HasPrefix(sub, "vnd.openxmlformats-officedocument."),
		strings.HasPrefix(sub, "vnd.oasis.opendocument.") && !strings.HasSuffix(sub, "-xml"), zipTypes[sub]:
		return familyZip
	}
	return familyAny
}

var (
	textTypes = map[string]bool{
		"json": true, "xml": true, "javascript": true, "ecmascript": true, "x-javascript": true, "x-sh": true, "x-yaml": true,
		"yaml": true, "toml": true, "sql": true, "x-ndjson": true, "x-subrip": true,
	}
	zipTypes = map[string]bool{"java-archive": true, "vnd.android.package-archive": true}
)

// shown reports whether browsers may show files of the type in place; all others are downloads.
func shown(t string) bool { return familyOf(t) == familyExact }

// matches reports whether a type is one of those named, each exactly or as "image/*" or "*".
func matches(patterns []string, t string) bool {
	for _, p := range patterns {
		if p == "*" || p == "*/*" || strings.EqualFold(p, t) {
			return true
		}
		if kind, ok := strings.CutSuffix(p, "/*"); ok && len(t) > len(kind) && t[len(kind)] == '/' && strings.EqualFold(t[:len(kind)], kind) {
			return true
		}
	}
	return false
}
