-- Finds out whether a user is online still; if not, and they counted as online, marks them offline and tells it. Of any
-- number of callers one does.
-- KEYS: the user's connections, the user's hash, and the mark (mark.lua), but not on a cluster, where it is another slot's
-- ARGV: TTL in ms, channel, ms that records are kept, ms that a mark is good for
-- Returns {1, deadline in ms} for one who is online, {0, seen} for one whom another marked offline, {2, seen, deadline}
-- for one whom this call did; {3} if nobody may be claimed now. seen is in microseconds, 0 if unknown.
local t = redis.call('TIME')
local micros = t[1] * 1000000 + t[2]
local now = math.floor(micros / 1000)
if KEYS[3] then
  local at = tonumber(redis.call('HGET', KEYS[3], 'at'))
  if at and (at > now or now - at > tonumber(ARGV[4])) then
    return {3}
  end
end
local last = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')
local deadline = tonumber(last[2]) or 0
if deadline > now then
  redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
  return {1, last[2]}
end
local told = redis.call('HMGET', KEYS[2], 'online', 'version', 'seen')
redis.call('DEL', KEYS[1])
if told[1] ~= '1' then
  return {0, told[3] or '0'}
end
local seen = tonumber(told[3]) or 0
if deadline > 0 then
  seen = math.max(seen, (deadline - ARGV[1]) * 1000)
else
  seen = micros
end
seen = string.format('%.0f', seen)
local version = string.format('%.0f', math.max(micros, (tonumber(told[2]) or 0) + 1))
redis.call('HSET', KEYS[2], 'online', '0', 'version', version, 'seen', seen)
redis.call('PEXPIRE', KEYS[2], ARGV[3])
redis.call('PUBLISH', ARGV[2], '{"version":' .. version .. ',"online":false,"seen":' .. seen .. '}')
return {2, seen, string.format('%.0f', deadline), string.format('%.0f', now)}
