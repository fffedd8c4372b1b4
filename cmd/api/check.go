package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/parley-chat/parley/internal/client"
)

// checkTimeout bounds the check as a whole.
const checkTimeout = time.Minute

// check asks whether everything that Parley needs is up, has two people register, open sockets and chat, and deletes them again. The
// chart's helm test runs it.
func check(args []string) error {
	if len(args) != 1 {
		usage()
	}
	ctx, cancel := context.WithTimeout(context.Background(), checkTimeout)
	defer cancel()
	base := strings.TrimRight(args[0], "/")
	if err := ready(ctx, base); err != nil {
		return err
	}
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

// ready returns an error unless the pod that serves the request reaches everything that it depends on. Without Redis a pod is
// ready, and users can chat; but an installation that is degraded from its start is faulty.
func ready(ctx context.Context, base string) error {
	response, err := client.Server{Base: base}.Do(ctx, "GET", "/api/health/ready", nil)
	if err != nil {
		return err
	}
	var state struct {
		Status string            `json:"status"`
		Checks map[string]string `json:"checks"`
	}
	if err := json.Unmarshal(response.Body, &state); err != nil {
		return fmt.Errorf("ask for readiness: status %d: %w", response.Status, err)
	}
	if state.Status == "ok" {
		return nil
	}
	var wrong []string
	for name, check := range state.Checks {
		if check != "up" && check != "current" {
			wrong = append(wrong, name+" is "+check)
		}
	}
	slices.Sort(wrong)
	return fmt.Errorf("the Parley at %s is %s: %s", base, state.Status, strings.Join(wrong, ", "))
}

// chat sends a message from one to the other and returns how long it was under way.
func chat(ctx context.Context, from, to *client.Person) (time.Duration, error) {
	conversation, err := from.StartConversation(ctx, to)
	if err != nil {
		return 0, err
	}
	seen, _, err := from.Say(ctx, conversation, to, client.RandomName("hello"))
	return seen, err
}
