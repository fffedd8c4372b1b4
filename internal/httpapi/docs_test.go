package httpapi

import (
	"io"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/gofiber/fiber/v2"
)

// Swagger UI must work where there is no internet: the page loads nothing but what is served beside it.
func TestTheDocsNeedNothingFromOutside(t *testing.T) {
	t.Parallel()
	d, err := newDocs()
	if err != nil {
		t.Fatal(err)
	}
	app := fiber.New(fiber.Config{StrictRouting: true, ErrorHandler: func(c *fiber.Ctx, err error) error {
		return c.SendStatus(problemOf(err, "").Status)
	}})
	app.Get(docsPath, d.page)
	app.Get(docsPath+"/openapi.json", d.document)
	app.Get(docsPath+"/asyncapi.json", d.asyncDocument)
	app.Get(docsPath+"/frames", d.framesPage)
	app.Get(docsPath+"/frames.css", d.framesCSS)
	app.Get(docsPath+"/:asset", d.page)
	get := func(path string) (status int, media, policy, body string) {
		t.Helper()
		r, err := app.Test(httptest.NewRequest("GET", path, nil), -1)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		return r.StatusCode, r.Header.Get("Content-Type"), r.Header.Get("Content-Security-Policy"), string(b)
	}
	status, media, policy, page := get(docsPath)
	if status != 200 || !strings.HasPrefix(media, "text/html") || !strings.Contains(policy, "default-src 'self'") {
		t.Fatalf("the page is %d %s, under %q", status, media, policy)
	}
	if !strings.Contains(page, docsPath+"/openapi.json") {
		t.Error("the page does not name the document")
	}
	loads := regexp.MustCompile(`(?:src|href)="([^"]+)"`).FindAllStringSubmatch(page, -1)
	if len(loads) < 4 {
		t.Errorf("the page loads only %v", loads)
	}
	for _, l := range loads {
		if !strings.HasPrefix(l[1], docsPath+"/") {
			t.Errorf("the page loads %s", l[1])
			continue
		}
		if status, media, _, body := get(l[1]); status != 200 || len(body) < 500 || strings.HasPrefix(media, "text/html") {
			t.Errorf("%s is %d %s of %d bytes", l[1], status, media, len(body))
		}
	}
	if status, _, _, _ := get(docsPath + "/nothing.js"); status != 404 {
		t.Errorf("what is not there is a %d", status)
	}
	if status, media, _, body := get(docsPath + "/openapi.json"); status != 200 || media != "application/json" || !strings.HasPrefix(body, "{") {
		t.Errorf("the document is %d %s", status, media)
	}
	if status, media, _, body := get(docsPath + "/asyncapi.json"); status != 200 || media != "application/json" || !strings.Contains(body, `"asyncapi"`) {
		t.Errorf("the document of the socket is %d %s", status, media)
	}
	status, media, policy, page = get(docsPath + "/frames")
	if status != 200 || !strings.HasPrefix(media, "text/html") || !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") {
		t.Errorf("the page of frames is %d %s, under %q", status, media, policy)
	}
	if strings.Contains(page, "<script") || strings.Contains(page, "style=") {
		t.Error("the page of frames has what its policy forbids")
	}
	for _, l := range regexp.MustCompile(`href="#([^"]+)"`).FindAllStringSubmatch(page, -1) {
		if !strings.Contains(page, ` id="`+l[1]+`"`) {
			t.Errorf("the page of frames has a link to %s, which is not there", l[1])
		}
	}
	if status, media, _, _ := get(docsPath + "/frames.css"); status != 200 || !strings.HasPrefix(media, "text/css") {
		t.Errorf("the style of the page of frames is %d %s", status, media)
	}
}
