-- Takes users who are due, for a while: a caller that dies leaves them to another.
-- KEYS: a shard of the deadlines
-- ARGV: how many at most, for how many ms
-- Returns the score that they have now, and the users.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local users = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now), 'LIMIT', 0, ARGV[1])
if #users == 0 then
  return {}
end
local lease = string.format('%.0f', now + ARGV[2])
local pairs = {}
for i, user in ipairs(users) do
  pairs[2 * i - 1] = lease
  pairs[2 * i] = user
end
redis.call('ZADD', KEYS[1], 'XX', unpack(pairs))
table.insert(users, 1, lease)
return users
