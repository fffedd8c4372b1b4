package attachment

import (
	"bytes"
	"slices"
	"unicode/utf16"
	"unicode/utf8"
)

// sniffLen is how many bytes of a file are read to determine its type, whatever its size.
const sniffLen = 16 << 10

// sniffed is the format that a file's first bytes indicate.
type sniffed struct {
	// types are the possible media types of the format, the usual one first. It is empty for an unknown format.
	types []string
	// program is set for a program, whose type is the first of types.
	program bool
	// zip is set for a zip container.
	zip bool
}

// signature identifies a format by its bytes at an offset. If mask is set, bytes that are zero in it may have any value.
type signature struct {
	offset      int
	magic, mask string
	found       sniffed
}

func media(types ...string) sniffed { return sniffed{types: types} }

func program(t string) sniffed { return sniffed{types: []string{t}, program: true} }

// riff is the mask of a RIFF file: four letters, four bytes of length, four letters.
const riff = "\xff\xff\xff\xff\x00\x00\x00\x00\xff\xff\xff\xff"

var signatures = []signature{
	{magic: "\x89PNG\r\n\x1a\n", found: media("image/png", "image/apng")},
	{magic: "\xff\xd8\xff", found: media("image/jpeg")},
	{magic: "GIF87a", found: media("image/gif")},
	{magic: "GIF89a", found: media("image/gif")},
	{magic: "RIFF\x00\x00\x00\x00WEBP", mask: riff, found: media("image/webp")},
	{magic: "RIFF\x00\x00\x00\x00WAVE", mask: riff, found: media("audio/wav")},
	{magic: "RIFF\x00\x00\x00\x00AVI ", mask: riff, found: media("video/x-msvideo")},
	{magic: "FORM\x00\x00\x00\x00AIFF", mask: riff, found: media("audio/aiff")},
	{magic: "FORM\x00\x00\x00\x00AIFC", mask: riff, found: media("audio/aiff")},
	{magic: "BM\x00\x00\x00\x00\x00\x00\x00\x00", mask: "\xff\xff\x00\x00\x00\x00\xff\xff\xff\xff", found: media("image/bmp")},
	{magic: "II*\x00", found: media("image/tiff")},
	{magic: "MM\x00*", found: media("image/tiff")},
	{magic: "\x00\x00\x01\x00", found: media("image/x-icon")},
	{magic: "OggS\x00", found: media("audio/ogg", "video/ogg")},
	{magic: "fLaC", found: media("audio/flac")},
	{magic: "ID3", found: media("audio/mpeg", "audio/aac")},
	{magic: "MThd\x00\x00\x00\x06", found: media("audio/midi")},
	{magic: "#!AMR", found: media("audio/amr")},
	{magic: "\x1a\x45\xdf\xa3", found: media("video/webm", "audio/webm", "video/x-matroska", "audio/x-matroska")},
	{magic: "\x00\x00\x01\xba", found: media("video/mpeg")},
	{magic: "\x00\x00\x01\xb3", found: media("video/mpeg")},
	{magic: "FLV\x01", found: media("video/x-flv")},
	{magic: "%PDF-", found: media(typePDF)},
	{magic: "PK\x03\x04", found: sniffed{zip: true}},
	{magic: "PK\x05\x06", found: sniffed{zip: true}},
	{magic: "\x7fELF", found: program(typeELF)},
	{magic: "\xfe\xed\xfa\xce", found: program(typeMachO)},
	{magic: "\xfe\xed\xfa\xcf", found: program(typeMachO)},
	{magic: "\xce\xfa\xed\xfe", found: program(typeMachO)},
	{magic: "\xcf\xfa\xed\xfe", found: program(typeMachO)},
}

func (s *signature) fits(b []byte) bool {
	if len(b) < s.offset+len(s.magic) {
		return false
	}
	b = b[s.offset:]
	for i := range len(s.magic) {
		if (s.mask == "" || s.mask[i] != 0) && b[i] != s.magic[i] {
			return false
		}
	}
	return true
}

// sniff determines a file's format from its first bytes.
func sniff(b []byte) sniffed {
	for i := range signatures {
		if signatures[i].fits(b) {
			return signatures[i].found
		}
	}
	switch {
	case isPE(b):
		return program(typePE)
	case len(b) >= 12 && string(b[4:8]) == "ftyp":
		return isoMedia(b)
	case len(b) >= 8 && slices.Contains([]string{"moov", "mdat", "wide", "free", "skip"}, string(b[4:8])):
		return media("video/quicktime")
	case isADTS(b):
		return media("audio/aac")
	case isMP3(b):
		return media("audio/mpeg")
	}
	return sniffed{}
}

// isPE reports whether the file is a Windows program: it has a DOS header with a pointer to "PE". If the pointer leads beyond b, it only has
// to be plausible.
func isPE(b []byte) bool {
	if len(b) < 64 || string(b[:2]) != "MZ" {
		return false
	}
	at := int(b[60]) | int(b[61])<<8 | int(b[62])<<16 | int(b[63])<<24
	if at < 0 || at+4 > len(b) {
		return at > 0 && at < 1<<20
	}
	return string(b[at:at+4]) == "PE\x00\x00" || string(b[at:at+2]) == "NE" || string(b[at:at+2]) == "LE"
}

// isoMedia reads the brands of an ISO base media file.
func isoMedia(b []byte) sniffed {
	end := min(len(b), int(b[2])<<8|int(b[3]))
	brands := []string{string(b[8:12])}
	for i := 16; i+4 <= end && len(brands) < 32; i += 4 {
		brands = append(brands, string(b[i:i+4]))
	}
	has := func(names ...string) bool {
		return slices.ContainsFunc(names, func(n string) bool { return slices.Contains(brands, n) })
	}
	switch {
	case has("avif", "avis"):
		return media("image/avif")
	case has("heic", "heix", "heim", "heis", "hevc", "hevx"):
		return media("image/heic", "image/heif")
	case has("mif1", "msf1"):
		return media("image/heif", "image/heic")
	case brands[0] == "qt  ":
		return media("video/quicktime", "video/mp4")
	case bytes.HasPrefix([]byte(brands[0]), []byte("3g")):
		return media("video/3gpp", "audio/3gpp", "video/3gpp2", "audio/3gpp2", "video/mp4", "audio/mp4")
	}
	return media("video/mp4", "audio/mp4", "video/quicktime")
}

func isADTS(b []byte) bool { return len(b) >= 2 && b[0] == 0xff && b[1]&0xf6 == 0xf0 }

func isMP3(b []byte) bool {
	return len(b) >= 3 && b[0] == 0xff && b[1]&0xe0 == 0xe0 && b[1]&0x06 != 0 && b[2]&0xf0 != 0xf0 && b[2]&0x0c != 0x0c
}

// isText reports whether the bytes are UTF-8, or UTF-16 with a byte order mark, without control characters that don't occur in text. If b is
// not the whole file, its last character may be cut off.
func isText(b []byte, whole bool) bool {
	if len(b) >= 2 && (b[0] == 0xff && b[1] == 0xfe || b[0] == 0xfe && b[1] == 0xff) {
		return isUTF16(b[2:], b[0] == 0xff)
	}
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		switch {
		case r == utf8.RuneError && n == 1:
			return !whole && len(b) < utf8.UTFMax && !utf8.FullRune(b) // the last character is cut off
		case r < ' ' && !bytes.ContainsRune([]byte("\t\n\v\f\r\b\x1b"), r):
			return false
		}
		b = b[n:]
	}
	return true
}

func isUTF16(b []byte, little bool) bool {
	for i := 0; i+1 < len(b); i += 2 {
		u := uint16(b[i])<<8 | uint16(b[i+1])
		if little {
			u = uint16(b[i+1])<<8 | uint16(b[i])
		}
		if r := rune(u); !utf16.IsSurrogate(r) && r < ' ' && r != '\t' && r != '\n' && r != '\r' && r != '\f' {
			return false
		}
	}
	return true
}
