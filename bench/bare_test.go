package bench

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/gofiber/contrib/websocket"
	"github.com/gofiber/fiber/v2"
	"github.com/redis/go-redis/v9"

	"github.com/parley-chat/parley/internal/testenv"
)

// bareVar makes this binary a bare broadcaster on that address; bareRedisVar is the Redis that it hears.
const (
	bareVar      = "PARLEY_BENCH_BARE"
	bareRedisVar = "PARLEY_BENCH_BARE_REDIS"
	bareChannel  = "bare"
)

// bare is the least that a broadcaster on the same libraries can be, with the buffers of the api: what one Redis channel
// brings goes to every socket, all that waits in one write. It knows no users, groups, queues or slow readers.
type bare struct {
	mu    sync.Mutex
	conns map[net.Conn]struct{}
}

// serveBare serves until it is killed.
func serveBare(addr, redisURL string) error {
	options, err := redis.ParseURL(redisURL)
	if err != nil {
		return fmt.Errorf("the bare broadcaster's Redis: %w", err)
	}
	b := &bare{conns: map[net.Conn]struct{}{}}
	app := fiber.New(fiber.Config{DisableStartupMessage: true, ReduceMemoryUsage: true})
	app.Get("/api/ws", websocket.New(b.serve, websocket.Config{ReadBufferSize: 512, WriteBufferSize: 512, WriteBufferPool: &sync.Pool{}}))
	go b.fanOut(redis.NewClient(options).Subscribe(context.Background(), bareChannel).Channel(redis.WithChannelSize(1 << 16)))
	return app.Listen(addr)
}

func (b *bare) serve(c *websocket.Conn) {
	if c.WriteMessage(websocket.TextMessage, []byte(`{"type":"ready"}`)) != nil {
		return
	}
	conn := c.NetConn()
	b.mu.Lock()
	b.conns[conn] = struct{}{}
	b.mu.Unlock()
	for {
		if _, _, err := c.ReadMessage(); err != nil {
			break
		}
	}
	b.mu.Lock()
	delete(b.conns, conn)
	b.mu.Unlock()
}

func (b *bare) fanOut(heard <-chan *redis.Message) {
	var out []byte
	for m := range heard {
		out = append(out[:0], m.Payload...)
		for more := true; more && len(out) < 64<<10; {
			select {
			case m := <-heard:
				out = append(out, m.Payload...)
			default:
				more = false
			}
		}
		b.mu.Lock()
		for c := range b.conns {
			_, _ = c.Write(out)
		}
		b.mu.Unlock()
	}
}

// bareSystem is bare broadcasters in place of api processes.
type bareSystem struct {
	system
	client *redis.Client
	seq    int
}

func startBare(b *testing.B, n int) *bareSystem {
	b.Helper()
	raiseFiles(b)
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	s := &bareSystem{system: system{redis: testenv.Redis(b)}}
	s.client = s.redis.Client(b)
	for range n {
		p := &pod{port: testenv.FreePort(b), path: "/api/ws"}
		addr := fmt.Sprintf("127.0.0.1:%d", p.port)
		p.Process = testenv.Start(b, self, nil, []string{bareVar + "=" + addr, bareRedisVar + "=" + s.redis.URL()})
		s.pods = append(s.pods, p)
	}
	testenv.Eventually(b, 20*time.Second, func() bool {
		return s.client.PubSubNumSub(b.Context(), bareChannel).Val()[bareChannel] == int64(n)
	}, "the bare broadcasters listen")
	for _, p := range s.pods {
		p.awaitPort(b)
	}
	return s
}

const barePayload = `{"type":"message:new","data":{"id":"019ab2c3-0000-7000-8000-0000000000d0",` +
	`"conversationId":"019ab2c3-0000-7000-8000-0000000000c0","seq":%d,"revision":%[1]d,"senderId":"019ab2c3-0000-7000-8000-00000000000a",` +
	`"content":"%s","clientMessageId":"019ab2c3-0000-7000-8000-0000000000e0","replyToId":null,"createdAt":"2026-11-23T10:00:00.123456Z",` +
	`"editedAt":null,"deletedAt":null}}`

// say publishes a finished frame like that of a message.
func (s *bareSystem) say(content string) error {
	s.seq++
	payload := fmt.Appendf(nil, barePayload, s.seq, content)
	f := binary.BigEndian.AppendUint16([]byte{0x81, 126}, uint16(len(payload))) //nolint:gosec // some 500 bytes
	return s.client.Publish(context.Background(), bareChannel, append(f, payload...)).Err()
}
