package observe_test

import (
	"errors"
	"log/slog"
	"testing"

	"github.com/parley-chat/parley/internal/observe"
)

func TestAnOutageIsTwoLines(t *testing.T) {
	t.Parallel()
	log := &lines{}
	o := observe.NewOutage(slog.New(slog.NewTextHandler(log, nil)), "it is gone", "it is back")
	o.End()
	o.Settle()
	if log.has("back") {
		t.Error("an outage ended that never began")
	}
	for range 100 {
		o.Fail(t.Context(), errors.New("no answer"), "route", "/x")
	}
	if n := log.count("it is gone"); n != 1 || !log.has(`error="no answer"`) || !log.has("route=/x") {
		t.Errorf("%d lines for a hundred failures", n)
	}
	o.Settle()
	if log.has("back") {
		t.Error("it ended with its failures")
	}
	o.Settle()
	if !log.has("it is back") || !log.has("failures=100") {
		t.Error("it did not end")
	}
	o.Note(errors.New("no answer"))
	o.Note(nil)
	if log.count("it is gone") != 2 || log.count("it is back") != 2 {
		t.Error("the second outage is not logged")
	}
}
