-- Shortens the deadline of a closed connection to the grace, and the key of its device to the longest deadline of the device's
-- connections. Other connections keep their deadlines. The connection is renamed to "…:closed", so that a late renewal
-- does not bring it back (touch.lua).
-- KEYS: the user's connections, the user's hash, the device's key
-- ARGV: device, connection, grace in ms
-- Returns 1, or 0 if the connection does not exist any more.
local t = redis.call('TIME')
local micros = t[1] * 1000000 + t[2]
local now = math.floor(micros / 1000)
local prefix = ARGV[1] .. ':'
local member = prefix .. ARGV[2]
local was = tonumber(redis.call('ZSCORE', KEYS[1], member))
if not was then
  return 0
end
redis.call('ZREM', KEYS[1], member)
redis.call('HDEL', KEYS[2], 'opened:' .. ARGV[2])
redis.call('ZADD', KEYS[1], string.format('%.0f', math.min(was, now + ARGV[3])), member .. ':closed')
if was > now then
  redis.call('HSET', KEYS[2], 'seen', string.format('%.0f', micros))
end
local all, longest = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES'), 0
for i = 1, #all, 2 do
  if string.sub(all[i], 1, #prefix) == prefix then
    longest = math.max(longest, tonumber(all[i + 1]))
  end
end
redis.call('PEXPIREAT', KEYS[3], string.format('%.0f', longest))
return 1
