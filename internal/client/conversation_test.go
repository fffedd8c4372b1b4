package client

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

type scenario struct {
	Name         string
	Conversation map[string]any
	Drafts       bool
	Steps        []map[string]json.RawMessage
	Expect       map[string]any
}

// The Go client has no outbox: scenarios of drafts are for clients that have one.
func TestScenarios(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile(filepath.Join("..", "..", "clients", "scenarios.json"))
	if err != nil {
		t.Fatal(err)
	}
	var table struct{ Scenarios []scenario }
	if err := json.Unmarshal(b, &table); err != nil {
		t.Fatal(err)
	}
	ran := 0
	for _, s := range table.Scenarios {
		if s.Drafts {
			continue
		}
		ran++
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			run(t, s)
		})
	}
	if ran < 25 {
		t.Errorf("only %d scenarios ran", ran)
	}
}

func run(t *testing.T, s scenario) {
	t.Helper()
	c := NewConversation("me", decode[Info](t, known(s.Conversation)))
	effects := []string{}
	for _, step := range s.Steps {
		for _, e := range applyStep(t, c, step) {
			if e.Kind == "message" || e.Kind == "changed" {
				e.Kind = fmt.Sprintf("%s %d", e.Kind, e.Seq)
			}
			effects = append(effects, e.Kind)
		}
	}
	members := []string{}
	for _, m := range c.Info.Members {
		members = append(members, m.User.ID)
	}
	messages := []string{}
	for _, m := range c.Messages {
		messages = append(messages, shown(m))
	}
	seen := map[string]any{
		"held": c.Held, "first": c.First, "messages": messages, "waiting": c.Waiting(), "unread": c.Unread(), "infoName": c.Info.Name,
		"members": members, "memberCount": c.Info.MemberCount, "gone": c.Gone, "effects": effects,
	}
	if c.Info.LastMessage != nil {
		seen["lastMessage"] = c.Info.LastMessage.Content
	}
	for k, want := range s.Expect {
		got := decode[any](t, seen[k])
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s is %v, not %v", k, got, want)
		}
	}
}

func applyStep(t *testing.T, c *Conversation, step map[string]json.RawMessage) []Effect {
	t.Helper()
	for kind, raw := range step {
		switch kind {
		case "frame":
			f := decode[struct {
				Type string
				Data map[string]any
			}](t, raw)
			switch f.Type {
			case "message:new", "message:updated", "message:deleted":
				f.Data = whole(f.Data)
			case "conversation:updated":
				f.Data = known(f.Data)
			}
			b, err := json.Marshal(f.Data)
			if err != nil {
				t.Fatal(err)
			}
			effects, err := c.Frame(f.Type, b)
			if err != nil {
				t.Fatal(err)
			}
			return effects
		case "sync":
			in := decode[struct {
				Asked int64
				Part  map[string]any
			}](t, raw)
			in.Part["messages"] = wholes(in.Part["messages"])
			if conv, ok := in.Part["conversation"].(map[string]any); ok {
				in.Part["conversation"] = known(conv)
			}
			return c.Sync(in.Asked, decode[SyncPart](t, in.Part))
		case "load":
			c.Load()
			return nil
		case "page":
			return c.Page(decode[[]HeldMessage](t, wholes(decode[any](t, raw))))
		case "info":
			return c.Answer(decode[Info](t, known(decode[map[string]any](t, raw))))
		}
		t.Fatalf("an unknown step: %s", kind)
	}
	return nil
}

// decode brings a value into another shape by way of JSON.
func decode[T any](t *testing.T, v any) (out T) {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func with(defaults, given map[string]any) map[string]any {
	for k, v := range given {
		defaults[k] = v
	}
	return defaults
}

func whole(m map[string]any) map[string]any {
	name := fmt.Sprintf("m%v", m["seq"])
	return with(map[string]any{"id": name, "conversationId": "c", "senderId": "you", "content": name}, m)
}

func wholes(list any) []map[string]any {
	out := []map[string]any{}
	for _, m := range list.([]any) {
		out = append(out, whole(m.(map[string]any)))
	}
	return out
}

func known(c map[string]any) map[string]any {
	member := func(id string) map[string]any {
		return map[string]any{"user": map[string]any{"id": id}, "role": "member"}
	}
	return with(map[string]any{
		"id": "c", "name": "Team", "members": []any{member("me"), member("you")}, "memberCount": 2, "revision": 5, "lastSeq": 3, "lastReadSeq": 3,
	}, c)
}

func shown(m HeldMessage) string {
	s := fmt.Sprintf("%d:%s", m.Seq, m.Content)
	if m.Mine != nil {
		s += "!" + strings.Join(m.Mine, ",")
	}
	counts := []string{}
	for _, r := range m.Reactions {
		counts = append(counts, fmt.Sprint(r.Reaction, r.Count))
	}
	if len(counts) > 0 {
		s += "=" + strings.Join(slices.Clip(counts), ",")
	}
	return s
}
