-- Reads a user's presence: what was published, and whether any of their connections lives. Between their last deadline and a watcher's
-- claim they count as online and are not.
-- KEYS: the user's connections, the user's hash
-- Returns {told online, version, seen, lives}.
local t = redis.call('TIME')
local told = redis.call('HMGET', KEYS[2], 'online', 'version', 'seen')
local online, lives = 0, 0
if told[1] == '1' then
  online = 1
  local last = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')
  if (tonumber(last[2]) or 0) > t[1] * 1000 + math.floor(t[2] / 1000) then
    lives = 1
  end
end
return {online, told[2] or '0', told[3] or '0', lives}
