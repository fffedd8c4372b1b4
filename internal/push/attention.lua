-- Adds and removes a user's active sources (attention.go).
-- KEYS: the user's sorted set: sources by the time at which they expire, in ms since 1970
-- ARGV: how long a source counts, in ms; the largest number of sources; how many of the following sources are added, the others are
--       removed; the sources
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local added = tonumber(ARGV[3])
for i = 4, #ARGV do
  if i - 3 <= added then
    redis.call('ZADD', KEYS[1], string.format('%.0f', now + ARGV[1]), ARGV[i])
  else
    redis.call('ZREM', KEYS[1], ARGV[i])
  end
end
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -1 - ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 0
