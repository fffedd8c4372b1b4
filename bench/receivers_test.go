package bench

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// receivers read many sockets by one thread, and count.
type receivers struct {
	epoll   int
	sockets map[int32]*socket
	got     atomic.Int64 // messages, of all sockets together
	moved   chan struct{}
	stop    atomic.Bool
	done    chan error
}

// receive starts to read the sockets. other gets each payload that is not a message; it may be nil.
func receive(b *testing.B, sockets []*socket, other func(*socket, []byte) error) *receivers {
	b.Helper()
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		b.Fatal(err)
	}
	r := &receivers{epoll: fd, sockets: map[int32]*socket{}, moved: make(chan struct{}, 1), done: make(chan error, 1)}
	for _, s := range sockets {
		r.sockets[int32(s.fd)] = s                                                                                                               //nolint:gosec // descriptors are small
		if err := syscall.EpollCtl(fd, syscall.EPOLL_CTL_ADD, s.fd, &syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(s.fd)}); err != nil { //nolint:gosec // as above
			b.Fatal(err)
		}
	}
	go func() { r.done <- r.run(other) }()
	b.Cleanup(func() { r.end(b) })
	return r
}

func (r *receivers) run(other func(*socket, []byte) error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	events, buf := make([]syscall.EpollEvent, 512), make([]byte, 256<<10)
	for !r.stop.Load() {
		n, err := syscall.EpollWait(r.epoll, events, 100)
		if err != nil && err != syscall.EINTR { //nolint:errorlint // a system call's own error
			return fmt.Errorf("epoll: %w", err)
		}
		for _, e := range events[:max(n, 0)] {
			if err := r.read(r.sockets[e.Fd], buf, other); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *receivers) read(s *socket, buf []byte, other func(*socket, []byte) error) error {
	n, err := s.Read(buf)
	if err != nil {
		return err
	}
	had := s.got
	err = s.take(buf[:n], func(payload []byte) error {
		if other == nil {
			return nil
		}
		return other(s, payload)
	})
	if err != nil {
		return err
	}
	r.got.Add(int64(s.got - had))
	select {
	case r.moved <- struct{}{}:
	default:
	}
	return nil
}

// await waits until the sockets got so many messages in all.
func (r *receivers) await(b *testing.B, messages int64) {
	b.Helper()
	stuck := time.NewTimer(30 * time.Second)
	defer stuck.Stop()
	for r.got.Load() < messages {
		had := r.got.Load()
		select {
		case <-r.moved:
		case err := <-r.done:
			r.done <- nil
			b.Fatalf("the receivers ended: %v", err)
		case <-stuck.C:
			b.Fatalf("%d of %d deliveries came", r.got.Load(), messages)
		}
		if r.got.Load() > had {
			stuck.Reset(30 * time.Second)
		}
	}
}

// end stops reading.
func (r *receivers) end(b *testing.B) {
	b.Helper()
	if r.stop.Swap(true) {
		return
	}
	if err := <-r.done; err != nil {
		b.Errorf("the receivers ended: %v", err)
	}
	_ = syscall.Close(r.epoll)
}
