package realtime_test

import (
	"net"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"

	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/realtime"
	"github.com/parley-chat/parley/internal/testenv"
)

// value is a counter's, or how many observations a histogram has, of the series with that label's value.
func (p *pod) value(t testing.TB, name, label string) float64 {
	t.Helper()
	families, err := p.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.Metric {
			if !has(m, label) {
				continue
			}
			if h := m.GetHistogram(); h != nil {
				return float64(h.GetSampleCount())
			}
			return m.GetCounter().GetValue()
		}
	}
	return -1
}

func has(m *dto.Metric, label string) bool {
	for _, l := range m.Label {
		if l.GetValue() == label {
			return true
		}
	}
	return label == ""
}

// A client that only listens answers protocol pings, which it gets also where it hears other things all the time.
func TestAClientThatOnlyListensIsKept(t *testing.T) {
	t.Parallel()
	e := setup(t, 1, 3)
	p := e.pods[0]
	c := p.connect(t, e.users[0])
	c.session.WroteIn(realtime.Heartbeat + time.Second)
	p.hub.BeatIn(realtime.Heartbeat + time.Second)
	if f := c.next(time.Minute); f.Type != "protocol ping" {
		t.Fatalf("got %+v", f)
	}
	c.session.Ponged()
	if n := p.value(t, "parley_socket_ping_seconds", ""); n != 1 {
		t.Errorf("%v round trips were measured", n)
	}
	c.session.Ponged() // one that nobody asked for
	if n := p.value(t, "parley_socket_ping_seconds", ""); n != 1 {
		t.Errorf("%v round trips were measured", n)
	}
	p.hub.BeatIn(2*realtime.Heartbeat - time.Second)
	c.until("protocol ping", time.Minute)
	p.hub.BeatIn(2*realtime.Heartbeat + time.Second) // it said nothing for too long
	for f := range c.frames {
		if f.code != 0 {
			t.Errorf("a close frame %d, where the connection is dead", f.code)
		}
	}
	testenv.Eventually(t, time.Minute, func() bool { return p.value(t, "parley_sockets_closed_total", "silent") == 1 }, "its end is counted")
}

// Where writing to a socket panics, it is given up, its handler ends, and the others go on.
func TestAPanicWhileWritingEndsThatSocketAlone(t *testing.T) {
	t.Parallel()
	e := setup(t, 1, 3)
	p := e.pods[0]
	other := p.connect(t, e.users[1])
	ours, theirs := net.Pipe()
	defer theirs.Close()
	s, err := p.hub.Connect(t.Context(), realtime.Identity{UserID: e.users[0], DeviceID: "d", SessionID: id.New()}, bomb{ours})
	if err != nil {
		t.Fatal(err)
	}
	_, _ = ours.Read(make([]byte, 1)) // ends when the connection does
	s.Detach()
	if n := p.value(t, "parley_sockets_closed_total", "panic"); n < 0 {
		t.Error("its end is not counted")
	}
	m := p.send(t, e.group, e.users[2], "hello")
	other.messages(m.Seq, m.Seq, time.Minute)
}

// bomb panics when it is written to.
type bomb struct{ net.Conn }

func (bomb) Write([]byte) (int, error) { panic("bomb") }
