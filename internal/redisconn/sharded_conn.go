package redisconn

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

var errDropped = errors.New("a slot moved to another node")

// Gap is a channel that was not subscribed for a while, and is again.
type Gap struct {
	Channel string
	// Moved says that the slot moved to another node while both were alive, Silent that the connection was dead without an error, and Cut
	// that the connection ended with an error and the channel is subscribed at the same node again, which may have been alive all the
	// time. Publishers noticed none of them. Otherwise another node has the slot since a failover.
	Moved, Silent, Cut bool

	from string // the address of the node that the connection led to, if it ended
}

// connection returns the client that makes the connection. go-redis replaces the broken connection of a subscription automatically: without notice,
// and with all sharded channels in one command, which the node refuses. So the connection of a sharded listener has a client of its own, which
// dials once.
func (l *Listener) connection() (client redis.UniversalClient, done func()) {
	node, ok := l.Client.(*redis.Client)
	if !l.sharded() || !ok {
		return l.Client, func() {}
	}
	o := *node.Options()
	dial, dialed := o.Dialer, atomic.Bool{}
	o.PoolSize, o.MinIdleConns, o.MaxRetries, o.DialerRetries = 1, 0, -1, 1
	o.PushNotificationProcessor, o.MaintNotificationsConfig = nil, &maintnotifications.Config{Mode: maintnotifications.ModeDisabled} // the node's client has its own
	o.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if dialed.Swap(true) {
			return nil, errDialedOnce
		}
		return dial(ctx, network, addr)
	}
	once := redis.NewClient(&o)
	return once, func() { _ = once.Close() }
}

var errDialedOnce = errors.New("the connection of this subscription has ended")

// concernsSlot reports whether an error says that a node does not serve a slot, now.
func concernsSlot(err error) bool {
	var e redis.Error
	return errors.As(err, &e) && slices.ContainsFunc([]string{"MOVED", "ASK", "CLUSTERDOWN", "TRYAGAIN", "LOADING", "MASTERDOWN"}, func(prefix string) bool {
		return redis.HasErrorPrefix(err, prefix)
	})
}

// IsUnavailable reports whether err is a reply of a Redis that executes no commands now, or no writes: it loads its data, is a replica, as
// after a failover, or its cluster has lost a master. The same command may succeed soon. Errors of connections are none of these.
func IsUnavailable(err error) bool {
	return slices.ContainsFunc([]string{"LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "NOREPLICAS"}, func(prefix string) bool {
		return redis.HasErrorPrefix(err, prefix)
	})
}

// IsUnsupported reports whether Redis does not have a command, or not for this user.
func IsUnsupported(err error) bool {
	var e redis.Error
	return errors.As(err, &e) && (redis.HasErrorPrefix(err, "NOPERM") || strings.Contains(err.Error(), "unknown command"))
}
