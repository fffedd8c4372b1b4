package rediskey

import (
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"

	"github.com/parley-chat/parley/internal/id"
)

// PresenceShards is into how many sorted sets the deadlines of all users are split.
const PresenceShards = 16

// PresenceEpoch holds a random text for as long as Redis keeps its memory. If it is gone, or has changed, the
// memory was lost.
const PresenceEpoch = "presence_epoch"

// PresenceMark is the hash of when a watcher swept last, in milliseconds; n from 0 to PresenceShards-1. On a cluster there is one for each
// n, so that every node has some.
func PresenceMark(n int) string { return "presence_mark:" + strconv.Itoa(n) }

const (
	devicePrefix          = "presence:"
	presenceChannelPrefix = "parley:presence:"
)

// Presence builds the keys of users' presence. On a cluster they are tagged, so that those of one user share a slot.
type Presence struct {
	Tagged bool
}

func (p Presence) tag(userID string) string {
	if p.Tagged {
		return "{" + userID + "}"
	}
	return userID
}

// Device lives while the device counts as online.
func (p Presence) Device(userID, deviceID string) string {
	return devicePrefix + p.tag(userID) + ":" + deviceID
}

// Connections is the sorted set of a user's connections, device:connection, by deadline in milliseconds.
func (p Presence) Connections(userID string) string { return "presence_connections:" + p.tag(userID) }

// User is the hash of a user's published state: online, version and seen, the latter two in microseconds.
func (p Presence) User(userID string) string { return "presence_user:" + p.tag(userID) }

// ParseDevice is the reverse of Device, of both its forms.
func ParseDevice(key string) (userID, deviceID string, ok bool) {
	rest, ok := strings.CutPrefix(key, devicePrefix)
	if !ok {
		return "", "", false
	}
	userID, deviceID, ok = strings.Cut(rest, ":")
	if tagged, is := strings.CutPrefix(userID, "{"); is {
		if userID, is = strings.CutSuffix(tagged, "}"); !is {
			return "", "", false
		}
	}
	return userID, deviceID, ok && deviceID != "" && id.Valid(userID)
}

// PresenceDeadlines is the sorted set of the users of a shard, by the time of their next check, in milliseconds.
func PresenceDeadlines(shard int) string { return "presence_deadlines:" + strconv.Itoa(shard) }

// PresenceShard is the shard of a user.
func PresenceShard(userID string) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(userID))
	return int(h.Sum32() % PresenceShards)
}

// PresenceChannel is the channel of a user's presence. Pods subscribe to it for the sockets that watch the user.
func PresenceChannel(userID string) string { return presenceChannelPrefix + userID }

// ParsePresenceChannel is the reverse of PresenceChannel.
func ParsePresenceChannel(channel string) (userID string, ok bool) {
	return strings.CutPrefix(channel, presenceChannelPrefix)
}

// ExpiredChannel is the channel on which Redis publishes expired keys of a database.
func ExpiredChannel(db int) string { return fmt.Sprintf("__keyevent@%d__:expired", db) }
