package attachment

import "slices"

// checked is the result of checking an object.
type checked struct {
	contentType   string
	width, height int
}

// inspect compares a file's first bytes, head, with the announced type. ok is false if the file has another type, or is a program of a
// denied type.
func inspect(announced string, denied []string, head []byte, size int64, more window) (c checked, ok bool, err error) {
	found := sniff(head)
	if found.program && matches(denied, found.types[0]) {
		return checked{}, false, nil
	}
	c.contentType = announced
	switch familyOf(announced) {
	case familyAny:
		return c, true, nil
	case familyText:
		return c, isText(head, int64(len(head)) == size), nil
	case familyZip:
		return c, found.zip, nil
	}
	if !slices.Contains(found.types, announced) {
		return checked{}, false, nil
	}
	c.width, c.height, err = pictureSize(found.types[0], head, more)
	return c, err == nil, err
}

// checkable reports whether the content of files of the type can be checked: pictures, audio and video must have a known format.
func checkable(t string) bool {
	if familyOf(t) != familyExact {
		return true
	}
	return knownMedia[t]
}

var knownMedia = func() map[string]bool {
	known := map[string]bool{
		"image/avif": true, "image/heic": true, "image/heif": true, "video/quicktime": true, "video/mp4": true, "audio/mp4": true,
		"video/3gpp": true, "audio/3gpp": true, "video/3gpp2": true, "audio/3gpp2": true, "audio/aac": true, "audio/mpeg": true,
	}
	for _, s := range signatures {
		if !s.found.program {
			for _, t := range s.found.types {
				known[t] = true
			}
		}
	}
	return known
}()
