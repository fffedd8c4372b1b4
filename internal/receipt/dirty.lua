-- Touches ids in an index. It must run before anything is added to their keys: an id with rows is always in its index.
-- KEYS: an index
-- ARGV: ids
local t = redis.call('TIME')
local now = string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000))
for _, id in ipairs(ARGV) do
  redis.call('ZADD', KEYS[1], now, id)
end
return 0
