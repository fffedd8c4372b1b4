-- Renews a connection: it, its device and its user stay online for the TTL. Publishes an online event if the user was offline.
-- KEYS: the user's connections, the user's hash, the device's key
-- ARGV: device, connection, TTL in ms, 1 for a new connection, largest number of sockets, channel, 1 to extend the expiry of the
--   user's keys, and by how many ms, sharded channel that is used instead of the channel, '' for none
-- Returns 1 if the user came online, else 0, followed by the connections that are too many, the oldest first.
local t = redis.call('TIME')
local micros = t[1] * 1000000 + t[2]
local now = math.floor(micros / 1000)
local member = ARGV[1] .. ':' .. ARGV[2]
if redis.call('ZSCORE', KEYS[1], member .. ':closed') then
  return {0} -- a late renewal: the connection is closed already (close.lua)
end
local last = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')
local lived = (tonumber(last[2]) or 0) > now
local deadline = string.format('%.0f', now + ARGV[3])
redis.call('ZADD', KEYS[1], deadline, member)
redis.call('SET', KEYS[3], '', 'PXAT', deadline)
local answer = {0}
local published = redis.call('HMGET', KEYS[2], 'online', 'version')
if published[1] ~= '1' or not lived then -- all reads since the last deadline returned offline, whether the user was claimed or not
  local version = string.format('%.0f', math.max(micros, (tonumber(published[2]) or 0) + 1))
  redis.call('HSET', KEYS[2], 'online', '1', 'version', version)
  publish('{"version":' .. version .. ',"online":true,"seen":0}', ARGV[6], ARGV[9])
  answer[1] = 1
end
if answer[1] == 1 or ARGV[7] ~= '0' then
  redis.call('PEXPIRE', KEYS[1], ARGV[8])
  redis.call('PEXPIRE', KEYS[2], ARGV[8])
end
if ARGV[4] == '1' then
  redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
  redis.call('HSETNX', KEYS[2], 'opened:' .. ARGV[2], string.format('%.0f', micros))
  -- The times at which connections opened, by Redis's clock. Connections without one (of older pods, or forgotten by Redis) count as the
  -- oldest, in the order of their ids.
  local opened, stale = {}, {}
  local fields = redis.call('HGETALL', KEYS[2])
  for i = 1, #fields, 2 do
    local connection = string.match(fields[i], '^opened:(.*)$')
    if connection then
      opened[connection] = tonumber(fields[i + 1])
      stale[connection] = true
    end
  end
  local open = {}
  for _, m in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
    local connection = string.match(m, ':([^:]*)$')
    if connection ~= 'closed' then
      open[#open + 1] = connection
      stale[connection] = nil
    end
  end
  for connection in pairs(stale) do
    redis.call('HDEL', KEYS[2], 'opened:' .. connection)
  end
  table.sort(open, function(a, b)
    local x, y = opened[a] or 0, opened[b] or 0
    if x ~= y then
      return x < y
    end
    return a < b
  end)
  for i = 1, #open - ARGV[5] do
    answer[#answer + 1] = open[i]
  end
end
return answer
