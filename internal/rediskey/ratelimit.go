package rediskey

// RateLimit is the bucket of a subject, a user or an address, under a rule.
func RateLimit(rule, subject string) string { return "rate_limit:" + rule + ":" + subject }
