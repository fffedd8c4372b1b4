-- Leases users who are due, by moving their hints into the future. If the caller dies, they are due again after the lease.
-- KEYS: a shard of the deadlines
-- ARGV: largest number of users, duration of the lease in ms
-- Returns the new score of the hints, followed by the users; nothing if none is due.
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
