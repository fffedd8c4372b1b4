// Command oapi chats by the client that oapi-codegen made of the OpenAPI document, beside it in gen.go. PARLEY_URL names the api.
package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

func main() {
	if err := chat(context.Background(), os.Getenv("PARLEY_URL")); err != nil {
		fmt.Fprintln(os.Stderr, "oapi-codegen:", err)
		os.Exit(1)
	}
}

// patient repeats a request that gets a 503: a machine under load may not hash a password in time.
type patient struct{}

// tries is how often a request is made before its last 503 is reported.
const tries = 60

func (patient) Do(r *http.Request) (*http.Response, error) {
	for n := 1; ; n++ {
		response, err := http.DefaultClient.Do(r)
		if err != nil || response.StatusCode != http.StatusServiceUnavailable {
			return response, err
		}
		if n == tries {
			return nil, refusal(response)
		}
		_ = response.Body.Close()
		time.Sleep(time.Second)
		if r.GetBody == nil {
			continue
		}
		if r.Body, err = r.GetBody(); err != nil {
			return nil, err
		}
	}
}

// refusal is the error of a request that was refused each time. It closes the response.
func refusal(response *http.Response) error {
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	return fmt.Errorf("still %s after %d tries: %s", response.Status, tries, body)
}

func chat(ctx context.Context, url string) error {
	c, err := NewClientWithResponses(url, WithHTTPClient(patient{}))
	if err != nil {
		return err
	}
	var people []*TokenPair
	for _, name := range []string{"oapi_anna", "oapi_ben"} {
		r, err := c.RegisterWithResponse(ctx, RegisterRequest{Username: name, DisplayName: &name, Password: "correct horse battery"})
		if err != nil {
			return err
		}
		if r.JSON201 == nil {
			return fmt.Errorf("register: %s", r.Body)
		}
		people = append(people, r.JSON201)
	}
	as := func(_ context.Context, r *http.Request) error {
		r.Header.Set("Authorization", "Bearer "+people[0].AccessToken)
		return nil
	}
	made, err := c.CreateConversationWithResponse(ctx, CreateConversationRequest{Type: "direct", MemberIds: &[]Id{people[1].User.Id}}, as)
	if err != nil {
		return err
	}
	if made.JSON201 == nil {
		return fmt.Errorf("create a conversation: %s", made.Body)
	}
	sent, err := c.SendMessageWithResponse(ctx, made.JSON201.Id, SendMessageRequest{Content: "Hello Ben"}, as)
	if err != nil {
		return err
	}
	if sent.JSON201 == nil {
		return fmt.Errorf("send: %s", sent.Body)
	}
	page, err := c.ListMessagesWithResponse(ctx, made.JSON201.Id, nil, as)
	if err != nil {
		return err
	}
	if page.JSON200 == nil || len(page.JSON200.Data) != 1 || page.JSON200.Data[0].Content != "Hello Ben" || page.JSON200.Pagination.HasMore {
		return fmt.Errorf("list: %s", page.Body)
	}
	return nil
}
