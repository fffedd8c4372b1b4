package observe_test

import (
	"errors"
	"log/slog"
	"testing"

	"github.com/parley-chat/parley/internal/observe"
	"github.com/parley-chat/parley/internal/testenv"
)

func TestAnOutageIsTwoLines(t *testing.T) {
	t.Parallel()
	log := &testenv.Output{}
	o := observe.NewOutage(slog.New(slog.NewTextHandler(log, nil)), "it is gone", "it is back")
	o.End()
	o.Settle()
	if log.Count("back") > 0 {
		t.Error("an outage ended that never began")
	}
	for range 100 {
		o.Fail(t.Context(), errors.New("no answer"), "route", "/x")
	}
	if n := log.Count("it is gone"); n != 1 || log.Count(`error="no answer"`) == 0 || log.Count("route=/x") == 0 {
		t.Errorf("%d lines for a hundred failures", n)
	}
	o.Settle()
	if log.Count("back") > 0 {
		t.Error("it ended with its failures")
	}
	o.Settle()
	if log.Count("it is back") == 0 || log.Count("failures=100") == 0 {
		t.Error("it did not end")
	}
	o.Note(errors.New("no answer"))
	o.Note(nil)
	if log.Count("it is gone") != 2 || log.Count("it is back") != 2 {
		t.Error("the second outage is not logged")
	}
}
