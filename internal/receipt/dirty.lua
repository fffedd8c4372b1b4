-- Notes ids as touched now. It runs before what is written to their keys.
-- KEYS: an index
-- ARGV: ids
local t = redis.call('TIME')
local now = string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000))
for _, id in ipairs(ARGV) do
  redis.call('ZADD', KEYS[1], now, id)
end
return 0
