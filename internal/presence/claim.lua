-- Claims a user: if the last deadline has passed and the user counts as online, marks the user offline and publishes that.
-- Of any number of concurrent claims exactly one does this.
-- KEYS: the user's connections, the user's hash, the mark (mark.lua; not on a cluster, where it is in another slot)
-- ARGV: TTL in ms, channel, ms that the keys are kept, ms that a mark is good for, sharded channel that is
--   used instead of the channel, '' for none
-- Returns {1, deadline in ms} if the user is online, {0, seen} if the user was offline already, {2, seen, deadline, now} if
-- this call marked the user offline, {3} if no user may be claimed now. seen is in microseconds, 0 if unknown.
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
local published = redis.call('HMGET', KEYS[2], 'online', 'version', 'seen')
redis.call('DEL', KEYS[1])
if published[1] ~= '1' then
  return {0, published[3] or '0'}
end
local seen = tonumber(published[3]) or 0
if deadline > 0 then
  seen = math.max(seen, (deadline - ARGV[1]) * 1000)
else
  seen = micros
end
seen = string.format('%.0f', seen)
local version = string.format('%.0f', math.max(micros, (tonumber(published[2]) or 0) + 1))
redis.call('HSET', KEYS[2], 'online', '0', 'version', version, 'seen', seen)
redis.call('PEXPIRE', KEYS[2], ARGV[3])
publish('{"version":' .. version .. ',"online":false,"seen":' .. seen .. '}', ARGV[2], ARGV[5])
return {2, seen, string.format('%.0f', deadline), string.format('%.0f', now)}
