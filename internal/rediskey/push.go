package rediskey

// Attention is the sorted set of what a user is active with, by when it counts no more in milliseconds.
func Attention(userID string) string { return "push_active:" + userID }
