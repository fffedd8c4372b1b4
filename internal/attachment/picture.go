package attachment

import (
	"bytes"
	"encoding/binary"
)

// maxSide is the largest width or height in a header that is believed.
const maxSide = 1 << 24

// window reads n bytes of a file at an offset, or fewer at its end.
type window func(offset int64, n int) ([]byte, error)

// maxSegments bounds the segments of a JPEG that are examined, maxReads the reads beyond the file's first bytes. Such reads are needed
// because files from cameras have previews of up to 64 KiB each before the segment with the size.
const (
	maxSegments = 200
	maxReads    = 6
	segmentLen  = 512
)

// pictureSize reads width and height from a picture's header. They are 0 for unknown formats. The picture is not decoded.
func pictureSize(t string, head []byte, more window) (width, height int, err error) {
	var w, h uint32
	switch t {
	case "image/png":
		w, h = pngSize(head)
	case "image/gif":
		if len(head) >= 10 {
			w, h = uint32(binary.LittleEndian.Uint16(head[6:])), uint32(binary.LittleEndian.Uint16(head[8:]))
		}
	case "image/bmp":
		w, h = bmpSize(head)
	case "image/webp":
		w, h = webpSize(head)
	case "image/avif", "image/heic", "image/heif":
		w, h = heifSize(head)
	case "image/jpeg":
		w, h, err = jpegSize(head, more)
	}
	if err != nil || w == 0 || h == 0 || w > maxSide || h > maxSide {
		return 0, 0, err
	}
	return int(w), int(h), nil
}

func pngSize(b []byte) (w, h uint32) {
	if len(b) < 24 || string(b[12:16]) != "IHDR" {
		return 0, 0
	}
	return binary.BigEndian.Uint32(b[16:]), binary.BigEndian.Uint32(b[20:])
}

func bmpSize(b []byte) (w, h uint32) {
	if len(b) < 26 {
		return 0, 0
	}
	if binary.LittleEndian.Uint32(b[14:]) == 12 { // the oldest header
		return uint32(binary.LittleEndian.Uint16(b[18:])), uint32(binary.LittleEndian.Uint16(b[20:]))
	}
	h = binary.LittleEndian.Uint32(b[22:])
	if int32(h) < 0 { //nolint:gosec // a negative height means that the rows are stored from top to bottom
		h = -h
	}
	return binary.LittleEndian.Uint32(b[18:]), h
}

func webpSize(b []byte) (w, h uint32) {
	if len(b) < 30 {
		return 0, 0
	}
	switch string(b[12:16]) {
	case "VP8 ":
		return uint32(binary.LittleEndian.Uint16(b[26:]) & 0x3fff), uint32(binary.LittleEndian.Uint16(b[28:]) & 0x3fff)
	case "VP8L":
		bits := binary.LittleEndian.Uint32(b[21:])
		return bits&0x3fff + 1, bits>>14&0x3fff + 1
	case "VP8X":
		return uint24(b[24:]) + 1, uint24(b[27:]) + 1
	}
	return 0, 0
}

func uint24(b []byte) uint32 { return uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 }

// heifSize returns the largest size among the file's properties. The others are those of tiles.
func heifSize(b []byte) (w, h uint32) {
	for {
		i := bytes.Index(b, []byte("ispe"))
		if i < 0 || len(b) < i+16 {
			return w, h
		}
		pw, ph := binary.BigEndian.Uint32(b[i+8:]), binary.BigEndian.Uint32(b[i+12:])
		if pw <= maxSide && ph <= maxSide && uint64(pw)*uint64(ph) > uint64(w)*uint64(h) {
			w, h = pw, ph
		}
		b = b[i+16:]
	}
}

// jpegSize examines one segment after the other until the one with the size. Each segment beyond head costs one small read.
func jpegSize(head []byte, more window) (w, h uint32, err error) {
	at, reads := int64(2), 0
	for range maxSegments {
		seg := []byte(nil)
		if at < int64(len(head)) {
			seg = head[at:]
		}
		if len(seg) < 9 {
			if reads++; reads > maxReads {
				return 0, 0, nil
			}
			if seg, err = more(at, segmentLen); err != nil || len(seg) < 9 {
				return 0, 0, err
			}
		}
		if seg[0] != 0xff {
			return 0, 0, nil
		}
		switch m := seg[1]; {
		case m == 0xff: // padding
			at++
			continue
		case m == 0xd9, m == 0xda: // the end, or the picture itself
			return 0, 0, nil
		case m >= 0xc0 && m <= 0xcf && m != 0xc4 && m != 0xc8 && m != 0xcc:
			return uint32(binary.BigEndian.Uint16(seg[7:])), uint32(binary.BigEndian.Uint16(seg[5:])), nil
		}
		at += 2 + int64(binary.BigEndian.Uint16(seg[2:]))
	}
	return 0, 0, nil
}
