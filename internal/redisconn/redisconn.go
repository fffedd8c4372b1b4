// Package redisconn opens the connection to Redis: standalone, Sentinel or Cluster by the form of the settings.
package redisconn

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Time-outs are short and retries few: a request is waiting, and every caller can do without Redis.
const (
	dialTimeout  = 500 * time.Millisecond
	readTimeout  = 1 * time.Second
	poolTimeout  = 1 * time.Second
	maxRetries   = 1
	dialTries    = 1
	connIdleTime = 5 * time.Minute
	// clusterReload is how often the client reloads the topology of a cluster: until it does so after a failover, a pipeline or a
	// subscription keeps trying the dead master.
	clusterReload = 2 * time.Second
	// Keep-alives end idle connections to machines that are gone.
	keepAliveIdle     = 10 * time.Second
	keepAliveInterval = 5 * time.Second
	keepAliveCount    = 3
)

// Config is how to reach Redis.
type Config struct {
	// URL is redis:// or rediss://, several comma separated for a cluster.
	URL string
	// Username and Password, where set, are used instead of the URL's.
	Username, Password string
	// SentinelMaster names the master of a Sentinel set-up; URL then names the sentinels.
	SentinelMaster string
	// PoolSize is how many connections there are to each node.
	PoolSize int
	// ClientName is shown by CLIENT LIST.
	ClientName string
}

// Options reads the settings. Its errors do not show the URL, which may hold a password.
func Options(c Config) (*redis.UniversalOptions, error) {
	u := &redis.UniversalOptions{
		MasterName:      c.SentinelMaster,
		ClientName:      c.ClientName,
		DialTimeout:     dialTimeout,
		DialerRetries:   dialTries,
		ReadTimeout:     readTimeout,
		WriteTimeout:    readTimeout,
		PoolTimeout:     poolTimeout,
		PoolSize:        c.PoolSize,
		MinIdleConns:    c.PoolSize, // a burst must not wait for dials: the rate limiter would consider Redis unavailable
		MaxRetries:      maxRetries,
		ConnMaxIdleTime: connIdleTime,
		// Without it a context's deadline does not end a read: a caller with half a second would wait for readTimeout.
		ContextTimeoutEnabled: true,
	}
	for i, part := range strings.Split(c.URL, ",") {
		part = strings.TrimSpace(part)
		if i > 0 && !strings.Contains(part, "://") {
			part = "redis://" + part
		}
		o, err := redis.ParseURL(part)
		if err != nil {
			return nil, fmt.Errorf("node %d is not a redis:// or rediss:// URL", i+1)
		}
		u.Addrs = append(u.Addrs, o.Addr)
		if i > 0 {
			continue
		}
		u.Username, u.Password, u.DB, u.TLSConfig = o.Username, o.Password, o.DB, o.TLSConfig
		if u.MasterName != "" {
			u.SentinelUsername, u.SentinelPassword = o.Username, o.Password
		}
	}
	if c.Username != "" {
		u.Username = c.Username
	}
	if c.Password != "" {
		u.Password = c.Password
	}
	if len(u.Addrs) > 1 && u.MasterName == "" && u.DB != 0 {
		return nil, errors.New("a cluster has only database 0")
	}
	u.Dialer = newGuard(u.TLSConfig, dialTimeout).dial
	return u, nil
}

// LogTo logs go-redis's own messages at debug level, one record each: callers report the errors that matter. It applies to the
// whole process.
func LogTo(log *slog.Logger) { redis.SetLogger(words{log}) }

type words struct {
	log *slog.Logger
}

// Printf implements go-redis's logger.
func (w words) Printf(ctx context.Context, format string, v ...any) {
	if w.log.Enabled(ctx, slog.LevelDebug) {
		w.log.DebugContext(ctx, fmt.Sprintf(format, v...), "part", "redis")
	}
}

// Open prepares a client. It does not connect.
func Open(c Config) (redis.UniversalClient, error) {
	o, err := Options(c)
	if err != nil {
		return nil, fmt.Errorf("open redis: %w", err)
	}
	if len(o.Addrs) > 1 && o.MasterName == "" {
		c := o.Cluster()
		c.ClusterStateReloadInterval = clusterReload
		return redis.NewClusterClient(c), nil
	}
	return redis.NewUniversalClient(o), nil
}
