-- Keeps a connection, and with it its device and its user, online for the TTL, and tells so where the user was not.
-- KEYS: the user's connections, the user's hash, the device's key
-- ARGV: device, connection, TTL in ms, 1 for a new connection, sockets a user may have, channel, 1 to keep the records on,
--   for how many ms
-- Returns 1 where the user came online, else 0, and then the connections that are too many, the oldest first.
local t = redis.call('TIME')
local micros = t[1] * 1000000 + t[2]
local now = math.floor(micros / 1000)
local member = ARGV[1] .. ':' .. ARGV[2]
if redis.call('ZSCORE', KEYS[1], member .. ':closed') then
  return {0} -- a renewal that was late: the connection has said goodbye
end
local deadline = string.format('%.0f', now + ARGV[3])
redis.call('ZADD', KEYS[1], deadline, member)
redis.call('SET', KEYS[3], '', 'PXAT', deadline)
local answer = {0}
local told = redis.call('HMGET', KEYS[2], 'online', 'version')
if told[1] ~= '1' then
  local version = string.format('%.0f', math.max(micros, (tonumber(told[2]) or 0) + 1))
  redis.call('HSET', KEYS[2], 'online', '1', 'version', version)
  redis.call('PUBLISH', ARGV[6], '{"version":' .. version .. ',"online":true,"seen":0}')
  answer[1] = 1
end
if answer[1] == 1 or ARGV[7] ~= '0' then
  redis.call('PEXPIRE', KEYS[1], ARGV[8])
  redis.call('PEXPIRE', KEYS[2], ARGV[8])
end
if ARGV[4] == '1' then
  redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
  local open = {}
  for _, m in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
    local connection = string.match(m, ':([^:]*)$')
    if connection ~= 'closed' then
      open[#open + 1] = connection
    end
  end
  table.sort(open) -- ids rise with time
  for i = 1, #open - ARGV[5] do
    answer[#answer + 1] = open[i]
  end
end
return answer
