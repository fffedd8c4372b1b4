package attachment

import (
	"mime"
	"strings"
)

// DefaultDenied are the denied types unless PARLEY_UPLOAD_DENY_TYPES is set: types that a browser would run as a page, and programs.
var DefaultDenied = []string{
	"text/html", "application/xhtml+xml", "image/svg+xml",
	typePE, "application/x-msdownload", "application/x-dosexec", "application/x-msdos-program", "application/x-msi",
	typeELF, "application/x-elf", "application/x-sharedlib", typeMachO,
	typeScript, "application/x-shellscript", "application/x-csh", "application/x-bat", "application/bat",
	"application/java-archive", "application/vnd.android.package-archive",
}

// The types of programs, which sniff detects.
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

// parseType returns a media type without its parameters, in lower case and with its usual name. It returns false if it is malformed.
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

// family says how a file's first bytes are compared with its announced type.
type family int

const (
	// familyExact: the file must have exactly the format of the type.
	familyExact family = iota
	// familyText: the file must be text.
	familyText
	// familyZip: the file must be a zip container.
	familyZip
	// familyAny: the file may be anything except a denied program.
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

// shown reports whether browsers may show files of the type inline. All others are downloaded.
func shown(t string) bool { return familyOf(t) == familyExact }

// matches reports whether a type matches one of the patterns: a type, "image/*" or "*".
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
