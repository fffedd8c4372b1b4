package rediskey

// ProfileStamp is what changes with each change of a user's profile or settings.
func ProfileStamp(userID string) string { return "profile_stamp:" + userID }
