package httpapi

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/parley-chat/parley/internal/jsonbody"
	"github.com/parley-chat/parley/internal/message"
)

var clientExample = regexp.MustCompile("(?s)<!-- client: (\\w+) -->\n```json\n(.*?)```")

// The page for authors of clients shows each frame that a client may send, as the server takes it.
func TestTheDocumentedFramesAreTaken(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "events.md"))
	if err != nil {
		t.Fatal(err)
	}
	data := map[string]jsonbody.Checker{
		"message_send": &sendData{}, "message_read": &readData{}, "reaction_add": &reactionData{}, "reaction_remove": &reactionData{}, "typing_start": &conversationData{}, "typing_stop": &conversationData{},
		"presence_subscribe": &presenceData{}, "presence_unsubscribe": &presenceData{}, "sync": &message.SyncRequest{}, "focus": &focusData{},
	}
	var shown []string
	for _, m := range clientExample.FindAllStringSubmatch(string(page), -1) {
		name := m[1]
		shown = append(shown, name)
		c, err := parse([]byte(m[2]))
		if err != nil || strings.ReplaceAll(c.kind, ":", "_") != name {
			t.Errorf("%s is read as %q: %v", name, c.kind, err)
		}
		if dst := data[name]; dst != nil {
			if err := decodeData(c.data, dst); err != nil {
				t.Errorf("the data of %s: %v", name, err)
			}
		}
	}
	for name := range data {
		if !slices.Contains(shown, name) {
			t.Errorf("docs/events.md does not show %s", name)
		}
	}
}
