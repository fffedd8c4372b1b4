package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/parley-chat/parley/internal/client"
)

// checkTimeout bounds the check as a whole.
const checkTimeout = time.Minute

// check has two people register, open sockets and chat, as helm test does, and deletes them again.
func check(args []string) error {
	if len(args) != 1 {
		usage()
	}
	ctx, cancel := context.WithTimeout(context.Background(), checkTimeout)
	defer cancel()
	base := strings.TrimRight(args[0], "/")
	var people [2]*client.Person
	for i, name := range []string{"Ana", "Ben"} {
		p, err := client.Join(ctx, base, name)
		if err != nil {
			return err
		}
		people[i] = p
	}
	took, err := chat(ctx, people[0], people[1])
	for _, p := range people {
		err = errors.Join(err, p.Leave(ctx))
	}
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(os.Stdout, "two people registered, opened sockets to %s and chatted: the message came after %s\n", base, took.Round(100*time.Microsecond))
	return nil
}

// chat sends a message from one to the other and answers how long it was under way.
func chat(ctx context.Context, from, to *client.Person) (time.Duration, error) {
	conversation, err := from.StartConversation(ctx, to)
	if err != nil {
		return 0, err
	}
	id, begun := client.RandomName("m"), time.Now()
	data := map[string]string{"conversationId": conversation, "content": id, "clientMessageId": id}
	if err := from.Send("message:send", id, data); err != nil {
		return 0, err
	}
	got, err := to.Await(ctx, client.AnswerTime, "message:new", func(f client.Frame) bool { return f.Content() == id })
	if err != nil {
		return 0, err
	}
	_, err = from.Await(ctx, client.AnswerTime, "ack", func(f client.Frame) bool { return f.ID == id })
	return got.At.Sub(begun), err
}
