package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/parley-chat/parley/internal/testenv"
)

// centrifugoVar is the path of a Centrifugo v6, where a comparison with it is wanted:
//
//	go install github.com/centrifugal/centrifugo/v6@latest
//	PARLEY_BENCH_CENTRIFUGO=$(go env GOPATH)/bin/centrifugo make bench BENCH='Connections|Fanout|Latency'
//
// It passes on what a client publishes and stores nothing, so what Parley does for a message besides is Parley's loss.
const (
	centrifugoVar = "PARLEY_BENCH_CENTRIFUGO"
	centrifugo    = "centrifugo"
)

// rival is something else that sends every socket what say publishes.
type rival struct {
	name string
	*system
	say func(content string) error
}

// rivals starts those with whom Parley is compared, on so many pods.
func rivals(b *testing.B, pods int) []rival {
	b.Helper()
	bare := startBare(b, pods)
	all := []rival{{"bare", &bare.system, bare.say}}
	if path := os.Getenv(centrifugoVar); path != "" {
		all = append(all, startCentrifugo(b, path, pods))
	}
	return all
}

// centrifugoConfig lets who has a token subscribe and publish, over Redis, and has no pings, which the sockets don't answer.
const centrifugoConfig = `{
  "http_server": {"address": "127.0.0.1", "port": %d},
  "client": {"token": {"hmac_secret_key": "%s"}, "ping_interval": "1h"},
  "channel": {"without_namespace": {"allow_subscribe_for_client": true, "allow_publish_for_client": true}},
  "engine": {"type": "redis", "redis": {"address": "%s"}},
  "log": {"level": "error"}
}`

const centrifugoChannel = "group"

func startCentrifugo(b *testing.B, path string, pods int) rival {
	b.Helper()
	raiseFiles(b)
	s := &system{redis: testenv.Redis(b)}
	for range pods {
		p := &pod{port: testenv.FreePort(b), path: "/connection/websocket", greet: greetCentrifugo}
		config := filepath.Join(b.TempDir(), "centrifugo.json")
		if err := os.WriteFile(config, fmt.Appendf(nil, centrifugoConfig, p.port, secret, s.redis.URL()), 0o600); err != nil {
			b.Fatal(err)
		}
		p.Process = testenv.Start(b, path, []string{"--config", config}, nil)
		p.awaitPort(b)
		s.pods = append(s.pods, p)
	}
	sender := sync.OnceValues(func() (*socket, error) { return sendingSocket(b, s.pods[0]) })
	seq := 0
	return rival{centrifugo, s, func(content string) error {
		to, err := sender()
		if err != nil {
			return err
		}
		seq++
		return to.frameOf(fmt.Appendf(nil, `{"id":%d,"publish":{"channel":"%s","data":%s}}`, seq+2, centrifugoChannel, fmt.Appendf(nil, barePayload, seq, content)))
	}}
}

// sendingSocket is a socket whose answers nobody reads.
func sendingSocket(b *testing.B, p *pod) (*socket, error) {
	s, err := p.open(person{id: "sender"}, 0)
	if err != nil {
		return nil, err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(io.Discard, s)
	}()
	b.Cleanup(func() {
		s.shut()
		<-done
		s.close()
	})
	return s, nil
}

// greetCentrifugo authenticates and, unless it is the sender, subscribes. It answers what the last reply contains.
func greetCentrifugo(s *socket, who person) (string, error) {
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.RegisteredClaims{
		Subject: who.id, ExpiresAt: jwt.NewNumericDate(time.Now().Add(time.Hour)),
	}).SignedString([]byte(secret))
	if err != nil {
		return "", fmt.Errorf("sign a token: %w", err)
	}
	commands, err := json.Marshal(map[string]any{"id": 1, "connect": map[string]string{"token": token}})
	if err != nil {
		return "", err
	}
	if who.token == "" {
		return `"id":1`, s.frameOf(commands)
	}
	commands = fmt.Appendf(commands, "\n"+`{"id":2,"subscribe":{"channel":"%s"}}`, centrifugoChannel)
	return `"id":2`, s.frameOf(commands)
}
