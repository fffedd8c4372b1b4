package bench

import (
	"bytes"
	"fmt"
	"strconv"
	"syscall"
	"testing"

	"github.com/parley-chat/parley/internal/client"
)

// socket is a client that costs little: a descriptor, and what came of a frame that is not whole yet.
type socket struct {
	fd   int
	rest []byte
	last map[string]int64 // conversation -> seq of the last message that came
	got  int              // messages
	on   func([]byte)     // called with each message, nil for none
}

// bindAddressNoPort is Linux's IP_BIND_ADDRESS_NO_PORT.
const bindAddressNoPort = 24

// open connects a person, from one of several addresses so that ports don't run out, and waits for the ready frame.
func (p *pod) open(who person, n int) (*socket, error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open a socket: %w", err)
	}
	s := &socket{fd: fd}
	if err := s.connect(p, who, byte(2+n/8000)); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *socket) connect(p *pod, who person, host byte) error {
	// The port is chosen on connecting, so that each server has all of them.
	if err := syscall.SetsockoptInt(s.fd, syscall.IPPROTO_IP, bindAddressNoPort, 1); err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	if err := syscall.Bind(s.fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, host}}); err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	if err := syscall.Connect(s.fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: p.port}); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	_ = syscall.SetsockoptInt(s.fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1)
	if _, err := s.Write([]byte(client.Upgrade(fmt.Sprintf("127.0.0.1:%d", p.port), p.path, who.token))); err != nil {
		return err
	}
	head, err := s.until(nil, "\r\n\r\n")
	if err != nil {
		return err
	}
	ready := `"type":"ready"`
	if p.greet != nil {
		if ready, err = p.greet(s, who); err != nil {
			return err
		}
	}
	head, err = s.until(head, ready)
	if err == nil && !bytes.HasPrefix(head, []byte("HTTP/1.1 101")) {
		return fmt.Errorf("not upgraded: %s", head)
	}
	return err
}

// until reads on after what came until it contains that.
func (s *socket) until(came []byte, that string) ([]byte, error) {
	buf := make([]byte, 4096)
	for !bytes.Contains(came, []byte(that)) {
		n, err := s.Read(buf)
		if err != nil {
			return nil, fmt.Errorf("%w after %.300q", err, came)
		}
		came = append(came, buf[:n]...)
	}
	return came, nil
}

// shut ends the connection, so that who reads it comes back.
func (s *socket) shut() { _ = syscall.Shutdown(s.fd, syscall.SHUT_RDWR) }

// close may be called again.
func (s *socket) close() {
	if s.fd >= 0 {
		_ = syscall.Close(s.fd)
	}
	s.fd = -1
}

// Read reads what there is, waiting where the descriptor does.
func (s *socket) Read(b []byte) (int, error) {
	for {
		n, err := syscall.Read(s.fd, b)
		switch {
		case err == syscall.EINTR: //nolint:errorlint // a system call's own error
			continue
		case err != nil:
			return 0, err
		case n == 0:
			return 0, fmt.Errorf("the server closed the socket")
		}
		return n, nil
	}
}

// Write writes all of it.
func (s *socket) Write(b []byte) (int, error) {
	for done := 0; done < len(b); {
		n, err := syscall.Write(s.fd, b[done:])
		if err == syscall.EINTR { //nolint:errorlint // a system call's own error
			continue
		}
		if err != nil {
			return done, fmt.Errorf("write: %w", err)
		}
		done += n
	}
	return len(b), nil
}

const text = "the quick brown fox jumps over the lazy dog and writes about it, in a hundred letters and some more"

// send asks for a message to be sent.
func (s *socket) send(conversationID, frameID string) error {
	return s.say(conversationID, frameID, text)
}

// say asks for a message of that content to be sent.
func (s *socket) say(conversationID, frameID, content string) error {
	type data struct {
		ConversationID string `json:"conversationId"`
		Content        string `json:"content"`
		Client         string `json:"clientMessageId"`
	}
	body, err := client.Encode("message:send", frameID, data{conversationID, content, frameID})
	if err != nil {
		return err
	}
	return s.frameOf(body)
}

// frameOf sends a text frame.
func (s *socket) frameOf(body []byte) error { return s.write(1, body) }

func (s *socket) write(opcode byte, body []byte) error {
	_, err := s.Write(client.AppendFrame(nil, opcode, body))
	return err
}

// take walks through what came, frame by frame. Each message must be its conversation's next one. other gets the
// payloads that are not messages; it may be nil.
func (s *socket) take(b []byte, other func(payload []byte) error) error {
	if len(s.rest) > 0 {
		b = append(s.rest, b...)
		s.rest = nil
	}
	for {
		n, opcode, payload := client.SplitFrame(b)
		if n == 0 {
			break
		}
		if err := s.frame(opcode, payload, other); err != nil {
			return err
		}
		b = b[n:]
	}
	if len(b) > 0 {
		s.rest = append([]byte(nil), b...)
	}
	return nil
}

var (
	isNew = []byte(`{"type":"message:new"`)
	isPub = []byte(`{"push":{"channel"`) // Centrifugo's, some to a frame, each on its line
	inSeq = []byte(`"seq":`)
	inID  = []byte(`"conversationId":"`)
)

func (s *socket) frame(op byte, payload []byte, other func([]byte) error) error {
	switch {
	case op == 8:
		return fmt.Errorf("the server closed the socket: %q", payload)
	case op == 9:
		return s.write(10, payload)
	case op == 1 && bytes.HasPrefix(payload, isNew):
		return s.message(payload)
	case op == 1 && bytes.HasPrefix(payload, isPub):
		for line := range bytes.Lines(payload) {
			if err := s.message(line); err != nil {
				return err
			}
		}
	case op == 1 && other != nil:
		return other(payload)
	}
	return nil
}

func (s *socket) message(payload []byte) error {
	i, j := bytes.Index(payload, inSeq), bytes.Index(payload, inID)
	if i < 0 || j < 0 {
		return fmt.Errorf("no message: %s", payload)
	}
	digits := payload[i+len(inSeq):]
	seq, err := strconv.ParseInt(string(digits[:bytes.IndexByte(digits, ',')]), 10, 64)
	if err != nil {
		return fmt.Errorf("no message: %s", payload)
	}
	if s.last == nil {
		s.last = map[string]int64{}
	}
	conversation := payload[j+len(inID) : j+len(inID)+36]
	if last := s.last[string(conversation)]; last != 0 && seq != last+1 {
		return fmt.Errorf("message %d of %s came after %d", seq, conversation, last)
	}
	s.last[string(conversation)] = seq
	s.got++
	if s.on != nil {
		s.on(payload)
	}
	return nil
}

// openAll connects people, round robin to the pods, some at once.
func (s *system) openAll(b *testing.B, who []person) []*socket {
	b.Helper()
	const atOnce = 16
	out := make([]*socket, len(who))
	errs := make(chan error, atOnce)
	for w := range atOnce {
		go func() {
			var err error
			for i := w; i < len(who) && err == nil; i += atOnce {
				out[i], err = s.pods[i%len(s.pods)].open(who[i], i)
			}
			errs <- err
		}()
	}
	for range atOnce {
		if err := <-errs; err != nil {
			b.Fatal(err)
		}
	}
	b.Cleanup(func() { closeAll(out) })
	return out
}

func closeAll(sockets []*socket) {
	for _, s := range sockets {
		s.close()
	}
}
