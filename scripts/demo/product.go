package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/parley-chat/parley/internal/client"
)

// productDemo shows what docs/beside-your-product.md explains: a user of the product's, whom Parley has never seen, comes with a token of
// the product's issuer; the product's back end makes a room for an order and has its bot say hello there.
func productDemo(ctx context.Context, urls []string) error {
	issuer, key := os.Getenv("PARLEY_DEMO_ISSUER"), os.Getenv("PARLEY_BOOTSTRAP_KEY")
	if issuer == "" || key == "" {
		return nil
	}
	fmt.Printf("\nA product that has users already (docs/beside-your-product.md):\n")
	subject := "auth0|" + client.RandomName("cleo")
	token, err := askForToken(ctx, issuer, subject, "Cleo")
	if err != nil {
		return err
	}
	cleo, err := client.Enter(ctx, urls[0], "Cleo", token)
	if err != nil {
		return err
	}
	defer cleo.Close()
	fmt.Printf("  Cleo comes with a token of the product's issuer (sub %q), and is the user %s now: nobody made an account\n", subject, cleo.Username)
	return sayHello(ctx, client.Server{Base: urls[len(urls)-1], Token: key}, cleo, subject)
}

// sayHello has the back end make a bot and a room of its own names, and the bot write there.
func sayHello(ctx context.Context, backEnd client.Server, cleo *client.Person, subject string) error {
	const bot = "order-bot"
	users := map[string]any{"users": []map[string]any{{"externalId": bot, "displayName": "Order bot", "kind": "bot"}}}
	if err := backEnd.Call(ctx, "PUT", "/server/users", users, nil); err != nil {
		return err
	}
	order := client.RandomName("order")
	path := "/server/conversations/ext:" + url.PathEscape(order)
	room := map[string]any{"name": "Your order", "members": []map[string]string{{"user": "ext:" + subject}}}
	for range 2 { // the second time makes no other
		if err := backEnd.Call(ctx, "PUT", path, room, nil); err != nil {
			return err
		}
	}
	fmt.Printf("  Its back end makes the room %q by a server key, twice, which is one room with Cleo in it\n", order)
	const text = "Your order is on its way."
	hello := map[string]string{"sender": "ext:" + bot, "content": text, "clientMessageId": "shipped"}
	if err := backEnd.Call(ctx, "POST", path+"/messages", hello, nil); err != nil {
		return err
	}
	_, err := cleo.Await(ctx, client.AnswerTime, "message:new", func(f client.Frame) bool { return f.Content() == text })
	if err != nil {
		return err
	}
	fmt.Printf("  Order bot ▸ Cleo  %s\n", text)
	return nil
}

// askForToken asks the issuer of scripts/issuer for a user's token.
func askForToken(ctx context.Context, issuer, subject, name string) (string, error) {
	query := url.Values{"sub": {subject}, "name": {name}}
	r, err := client.Server{Base: issuer}.Do(ctx, "POST", "/token?"+query.Encode(), nil)
	if err == nil && r.Status != http.StatusOK {
		err = fmt.Errorf("status %d", r.Status)
	}
	if err != nil {
		return "", fmt.Errorf("ask for a token: %w", err)
	}
	return strings.TrimSpace(string(r.Body)), nil
}
