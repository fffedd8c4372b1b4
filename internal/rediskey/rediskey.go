// Package rediskey builds and parses every key and channel that Parley uses in Redis. The test beside it pins them.
package rediskey

import "strings"

// SessionsChannel is the channel for ended sessions; every pod subscribes to it.
const SessionsChannel = "parley:sessions:ended"

// ShardedPodsChannel is the channel to which every pod subscribes that hears sharded channels. Nothing is published to it: the pods count its
// subscribers.
const ShardedPodsChannel = "parley:pods:sharded"

// Sharded is the sharded channel of a cluster that corresponds to a channel. That of a user's presence is in the slot of the user's keys, so that their
// scripts may publish to it.
func Sharded(channel string) string {
	if user, ok := ParsePresenceChannel(channel); ok {
		return presenceChannelPrefix + "{" + user + "}"
	}
	return channel
}

// Unsharded is the reverse of Sharded.
func Unsharded(channel string) string {
	if user, ok := ParsePresenceChannel(channel); ok {
		return PresenceChannel(strings.TrimSuffix(strings.TrimPrefix(user, "{"), "}"))
	}
	return channel
}

// ProbeChannel is the channel on which a pod publishes to itself.
func ProbeChannel(podID string) string { return probePrefix + podID }

const (
	probePrefix        = "parley:probe:"
	conversationPrefix = "parley:conversation:"
	userPrefix         = "parley:user:"
)

// ConversationChannel is the channel of a conversation's events.
func ConversationChannel(conversationID string) string { return conversationPrefix + conversationID }

// ConversationChannels is the pattern of the channels of all conversations.
const ConversationChannels = conversationPrefix + "*"

// UserChannel is the channel of notices for one user.
func UserChannel(userID string) string { return userPrefix + userID }

// ParseConversationChannel is the reverse of ConversationChannel.
func ParseConversationChannel(channel string) (conversationID string, ok bool) {
	return strings.CutPrefix(channel, conversationPrefix)
}

// ParseUserChannel is the reverse of UserChannel.
func ParseUserChannel(channel string) (userID string, ok bool) {
	return strings.CutPrefix(channel, userPrefix)
}
