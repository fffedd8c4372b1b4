-- Writes hints: the users are checked at that time.
-- KEYS: a shard of the deadlines
-- ARGV: ms from now, users
local t = redis.call('TIME')
local at = string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000) + ARGV[1])
local pairs = {}
for i = 2, #ARGV do
  pairs[#pairs + 1] = at
  pairs[#pairs + 1] = ARGV[i]
end
return redis.call('ZADD', KEYS[1], unpack(pairs))
