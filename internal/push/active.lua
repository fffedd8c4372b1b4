-- Reports whether a user is active.
-- KEYS: the user's sorted set, as attention.lua has it
-- Returns 1 or 0.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local last = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')
if last[2] and tonumber(last[2]) > now then
  return 1
end
return 0
