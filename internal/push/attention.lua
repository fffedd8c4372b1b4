-- Notes what of a user is active, and what is no more.
-- KEYS: the user's sorted set: sources by when they count no more, in ms
-- ARGV: how long a source counts, in ms; how many sources a user has at most; how many of the following become active; the sources
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
