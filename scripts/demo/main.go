// Command demo shows two people chatting over two pods of a running Parley, in the terminal, and then a product that brings its own
// users: one comes with a token of the product's issuer, and a bot of its back end says hello.
//
// PARLEY_DEMO_URLS has the pods' addresses, comma separated; one address (of a load balancer, say) serves for both people.
// PARLEY_DEMO_ISSUER is the address of an issuer as scripts/issuer is one, PARLEY_BOOTSTRAP_KEY a server key; without them, the second
// part is left out.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"

	"github.com/parley-chat/parley/internal/client"
)

const (
	defaultURLs = "http://127.0.0.1:8081,http://127.0.0.1:8082"
	whole       = time.Minute
	// For who looks on. The server passes on one typing of a socket in 3 s.
	typingTime  = 800 * time.Millisecond
	readingTime = 900 * time.Millisecond
)

var script = []struct {
	from int
	text string
}{
	{0, "Hi! Which pod are you on?"},
	{1, "The other one. Did this take long to get to you?"},
	{0, "Hardly. It went through Postgres first, so it can't get lost."},
	{1, "And through Redis from your pod to mine?"},
	{0, "Once, whatever the number of people in the conversation."},
	{1, "Good. See you at /api/docs 👋"},
}

func main() {
	if err := demo(addresses()); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func addresses() []string {
	var out []string
	for _, u := range strings.Split(os.Getenv("PARLEY_DEMO_URLS"), ",") {
		if u = strings.TrimRight(strings.TrimSpace(u), "/"); u != "" {
			out = append(out, u)
		}
	}
	if len(out) == 0 {
		out = strings.Split(defaultURLs, ",")
	}
	return out
}

func demo(urls []string) error {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt)
	defer cancel()
	ctx, stop := context.WithTimeout(ctx, whole)
	defer stop()
	var people [2]*client.Person
	for i, name := range []string{"Ana", "Ben"} {
		p, err := client.Join(ctx, urls[i%len(urls)], name)
		if err != nil {
			return err
		}
		defer p.Close()
		people[i] = p
		fmt.Printf("%s is %s, with a socket to %s\n", name, p.Username, p.Base)
	}
	conversation, err := people[0].StartConversation(ctx, people[1])
	if err != nil {
		return err
	}
	fmt.Printf("Ana starts the conversation %s\n\n", conversation)
	var took []time.Duration
	for _, line := range script {
		d, err := say(ctx, conversation, people[line.from], people[1-line.from], line.text)
		if err != nil {
			return err
		}
		took = append(took, d)
		pause(ctx, readingTime)
	}
	if err := showHistory(ctx, conversation, people[1]); err != nil {
		return err
	}
	slices.Sort(took)
	fmt.Printf("\nFrom the sender's frame to the receiver's screen: %s at best, %s at worst.\n", ms(took[0]), ms(took[len(took)-1]))
	return productDemo(ctx, urls)
}

// say has one person type and send, and the other see both. It answers how long the message was under way.
func say(ctx context.Context, conversation string, from, to *client.Person, text string) (time.Duration, error) {
	if err := typeFor(ctx, conversation, from, to); err != nil {
		return 0, err
	}
	seen, acked, err := from.Say(ctx, conversation, to, text)
	if err != nil {
		return 0, err
	}
	fmt.Printf("%s  %s ▸ %s  %-62s  seen after %s, acknowledged after %s\n", clock(), from.Name, to.Name, text, ms(seen), ms(acked))
	return seen, nil
}

// typeFor types for a while and stops.
func typeFor(ctx context.Context, conversation string, from, to *client.Person) error {
	in := map[string]string{"conversationId": conversation}
	if err := from.Send("typing:start", "", in); err != nil {
		return err
	}
	begun := time.Now()
	// Typing is delivered at most once and without a guarantee; a lost one does not matter.
	if _, err := to.Await(ctx, typingTime, "typing", client.Frame.Active); err == nil {
		fmt.Printf("%s             %s is typing ...\n", clock(), from.Name)
	}
	pause(ctx, typingTime-time.Since(begun))
	return from.Send("typing:stop", "", in)
}

func showHistory(ctx context.Context, conversation string, p *client.Person) error {
	var page struct {
		Data []client.Message `json:"data"`
	}
	if err := p.Call(ctx, "GET", "/conversations/"+conversation+"/messages?afterSeq=0", nil, &page); err != nil {
		return err
	}
	fmt.Printf("\nThe history that Postgres has, as %s reads it from %s:\n", p.Name, p.Base)
	for _, m := range page.Data {
		fmt.Printf("  %d  %s  %s\n", m.Seq, m.CreatedAt, m.Content)
	}
	if len(page.Data) != len(script) {
		return fmt.Errorf("the history has %d messages instead of %d", len(page.Data), len(script))
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func clock() string { return time.Now().Format("15:04:05.000") }

func ms(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000) }
