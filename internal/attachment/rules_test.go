package attachment

import (
	"bytes"
	"encoding/binary"
	"mime"
	"strings"
	"testing"

	"github.com/parley-chat/parley/internal/invalid"
)

// picture makes the header of a PNG of that size, 40 bytes long.
func picture(w, h uint32) []byte {
	b := []byte("\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR")
	b = binary.BigEndian.AppendUint32(b, w)
	b = binary.BigEndian.AppendUint32(b, h)
	b = append(b, 8, 6, 0, 0, 0)
	return append(b, make([]byte, 40-len(b))...)
}

// photo makes a JPEG whose size stands behind a preview of the given length.
func photo(w, h, preview int) []byte {
	b := []byte{0xff, 0xd8}
	for preview > 0 {
		n := min(preview, 65533)
		b = append(b, 0xff, 0xe1, byte((n+2)>>8), byte(n+2))
		b = append(b, bytes.Repeat([]byte{0xff}, n)...)
		preview -= n
	}
	return append(b, 0xff, 0xc2, 0, 17, 8, byte(h>>8), byte(h), byte(w>>8), byte(w), 3, 1, 0x22, 0, 2, 0x11, 1, 3, 0x11, 1, 0xff, 0xda)
}

func box(name string, body string) string {
	return string(binary.BigEndian.AppendUint32(nil, uint32(8+len(body)))) + name + body
}

func TestAFileIsHeldAgainstItsType(t *testing.T) {
	t.Parallel()
	gif := "GIF89a\x40\x01\xc8\x00\x00"
	webp := "RIFF\x24\x00\x00\x00WEBPVP8X\x0a\x00\x00\x00\x00\x00\x00\x00\x3f\x01\x00\xc7\x00\x00"
	tile, whole := "\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x02\x00", "\x00\x00\x00\x00\x00\x00\x0f\xa0\x00\x00\x0b\xb8"
	heic := box("ftyp", "heic\x00\x00\x00\x00mif1heic") + box("meta", box("ispe", tile)+box("ispe", whole))
	program := "MZ" + strings.Repeat("\x00", 58) + "\x40\x00\x00\x00PE\x00\x00"
	for _, c := range []struct {
		name, announced, content string
		ok                       bool
		w, h                     int
	}{
		{"png", "image/png", string(picture(10_000, 10_000)), true, 10_000, 10_000},
		{"png as apng", "image/apng", string(picture(3, 4)), true, 3, 4},
		{"png without a size", "image/png", string(picture(0, 7)), true, 0, 0},
		{"png of an absurd size", "image/png", string(picture(1<<31, 1)), true, 0, 0},
		{"png cut in its header", "image/png", string(picture(3, 4)[:20]), true, 0, 0},
		{"gif", "image/gif", gif, true, 320, 200},
		{"webp", "image/webp", webp, true, 320, 200},
		{"jpeg", "image/jpeg", string(photo(4000, 3000, 100)), true, 4000, 3000},
		{"jpeg with previews", "image/jpeg", string(photo(4000, 3000, 200_000)), true, 4000, 3000},
		{"jpeg of nothing but previews", "image/jpeg", string(photo(4000, 3000, 2_000_000)), true, 0, 0},
		{"heic in tiles", "image/heic", heic, true, 4000, 3000},
		{"html named png", "image/png", "<!DOCTYPE html><script>alert(1)</script>", false, 0, 0},
		{"gif as png", "image/png", gif, false, 0, 0},
		{"png as pdf", "application/pdf", string(picture(1, 1)), false, 0, 0},
		{"pdf", "application/pdf", "%PDF-1.7\n", true, 0, 0},
		{"mp4", "video/mp4", box("ftyp", "isom\x00\x00\x02\x00isomiso2avc1mp41"), true, 0, 0},
		{"sound in mp4", "audio/mp4", box("ftyp", "M4A \x00\x00\x02\x00isomiso2"), true, 0, 0},
		{"mov", "video/quicktime", box("ftyp", "qt  \x00\x00\x02\x00qt  "), true, 0, 0},
		{"webm sound", "audio/webm", "\x1a\x45\xdf\xa3\x9f", true, 0, 0},
		{"mp3", "audio/mpeg", "ID3\x04\x00", true, 0, 0},
		{"mp3 without tags", "audio/mpeg", "\xff\xfb\x90\x64", true, 0, 0},
		{"wav", "audio/wav", "RIFF\x24\x00\x00\x00WAVEfmt ", true, 0, 0},
		{"text as mp3", "audio/mpeg", "la la la", false, 0, 0},
		{"text", "text/plain", "Grüße\n", true, 0, 0},
		{"html as text is text", "text/plain", "<html>", true, 0, 0},
		{"text that begins like a picture", "text/plain", "GIF89a is a format", true, 0, 0},
		{"text in UTF-16", "text/csv", "\xff\xfea\x00;\x00b\x00", true, 0, 0},
		{"bytes as text", "text/plain", "a\x00b", false, 0, 0},
		{"latin 1 as text", "text/plain", "Gr\xfc\xdfe", false, 0, 0},
		{"json", "application/json", `{"a":1}`, true, 0, 0},
		{"zip", "application/zip", "PK\x03\x04rest", true, 0, 0},
		{"docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document", "PK\x03\x04rest", true, 0, 0},
		{"text as docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document", "hello", false, 0, 0},
		{"bytes", "application/octet-stream", "\x00\x01\x02", true, 0, 0},
		{"a program as bytes", "application/octet-stream", program, false, 0, 0},
		{"an ELF as bytes", "application/octet-stream", "\x7fELF\x02\x01", false, 0, 0},
		{"bytes that begin with MZ", "application/octet-stream", "MZ is two letters", true, 0, 0},
	} {
		content := []byte(c.content)
		reads := 0
		got, ok, err := inspect(c.announced, DefaultDenied, content[:min(len(content), sniffLen)], int64(len(content)), func(offset int64, n int) ([]byte, error) {
			reads++
			from := min(int(offset), len(content))
			return content[from:min(from+n, len(content))], nil
		})
		if err != nil || ok != c.ok || got.width != c.w || got.height != c.h {
			t.Errorf("%s: %+v, %t, %v; want %t, %d × %d", c.name, got, ok, err, c.ok, c.w, c.h)
		}
		if reads > maxReads {
			t.Errorf("%s: %d reads", c.name, reads)
		}
	}
}

func TestTextMayBeCutWithinACharacter(t *testing.T) {
	t.Parallel()
	if !isText([]byte("Gr\xc3"), false) || isText([]byte("Gr\xc3"), true) || isText([]byte("Gr\xc3 and on and on"), false) {
		t.Error("a character that the end of a part cuts is text, one that is cut elsewhere is not")
	}
}

func TestAnUploadIsChecked(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		u      Upload
		faults int
	}{
		{Upload{"a.png", "image/png", 1}, 0},
		{Upload{" a.txt ", "text/plain; charset=utf-8", 1}, 0},
		{Upload{"", "", 0}, 3},
		{Upload{strings.Repeat("é", 256), "image", -1}, 3},
		{Upload{"a\nb", "image/*", 1}, 2},
		{Upload{"..", "image/png", 1}, 1},
		{Upload{"a", "image/" + strings.Repeat("x", 128), 1}, 1},
	} {
		var f invalid.Faults
		u := c.u
		u.Check(&f)
		if len(f.List()) != c.faults {
			t.Errorf("%+v: %v, want %d faults", c.u, f.List(), c.faults)
		}
	}
	u := Upload{" a.JPG ", "IMAGE/JPG;q=1", 1}
	u.Check(&invalid.Faults{})
	if u.Filename != "a.JPG" || u.ContentType != "image/jpeg" {
		t.Errorf("normalised to %+v", u)
	}
}

func TestTypesAreMatched(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		patterns []string
		t        string
		want     bool
	}{
		{[]string{"*"}, "a/b", true},
		{[]string{"image/*"}, "image/png", true},
		{[]string{"image/*"}, "imagery/png", false},
		{[]string{"IMAGE/PNG"}, "image/png", true},
		{nil, "image/png", false},
		{DefaultDenied, "image/svg+xml", true},
		{DefaultDenied, "text/html", true},
	} {
		if got := matches(c.patterns, c.t); got != c.want {
			t.Errorf("%v against %s: %t", c.patterns, c.t, got)
		}
	}
	for _, unknown := range []string{"image/x-unheard-of", "video/x-ms-wmv"} {
		if checkable(unknown) {
			t.Errorf("%s cannot be checked", unknown)
		}
	}
}

func TestDispositionHoldsAnyName(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"a.txt":                     "a.txt",
		`say "hi"; rm -rf \ 100%`:   `say "hi"; rm -rf _ 100%`,
		"../../etc/passwd":          ".._.._etc_passwd",
		"naïve — файл 文件 🎉.pdf":     "naïve — файл 文件 🎉.pdf",
		"photo\u202egpj.exe":        "photo_gpj.exe",
		"a'b*c(d)[e]{f}?<g>:@=&,.z": "a'b*c(d)[e]{f}?<g>:@=&,.z",
		"line\r\nSet-Cookie: x":     "line__Set-Cookie: x",
	} {
		d := disposition("application/zip", name)
		for _, c := range []byte(d) {
			if c < ' ' || c > '~' {
				t.Fatalf("%q: a header with the byte %#x", name, c)
			}
		}
		kind, params, err := mime.ParseMediaType(d)
		if err != nil || kind != "attachment" || params["filename"] != want {
			t.Errorf("%q: %s is read as %s, %q, %v", name, d, kind, params["filename"], err)
		}
	}
	for typ, want := range map[string]string{
		"image/png": "inline", "application/pdf": "inline", "video/mp4": "inline", "audio/ogg": "inline",
		"text/plain": "attachment", "application/json": "attachment", "application/octet-stream": "attachment",
	} {
		if got, _, _ := strings.Cut(disposition(typ, "x"), ";"); got != want {
			t.Errorf("%s is %s", typ, got)
		}
	}
}
