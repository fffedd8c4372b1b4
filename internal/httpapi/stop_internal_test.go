package httpapi

import (
	"net"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
)

// A process that is stopped while it starts ends at once, not after the time that a stop may take.
func TestAServerThatIsStoppedBeforeItServesEnds(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{app: fiber.New(fiber.Config{DisableStartupMessage: true})}
	if err := s.closeServer(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.app.Listener(l) }()
	select {
	case err := <-served:
		if err != nil {
			t.Errorf("serving ended with %v", err)
		}
	case <-time.After(time.Minute):
		t.Error("it serves although it was stopped")
	}
}
