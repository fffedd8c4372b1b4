-- Reads a user's presence: the state published last, and whether a connection is before its deadline. Between the last deadline and
-- the claim the published state is still online.
-- KEYS: the user's connections, the user's hash
-- Returns {published as online, version, seen, lives}.
local t = redis.call('TIME')
local published = redis.call('HMGET', KEYS[2], 'online', 'version', 'seen')
local online, lives = 0, 0
if published[1] == '1' then
  online = 1
  local last = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')
  if (tonumber(last[2]) or 0) > t[1] * 1000 + math.floor(t[2] / 1000) then
    lives = 1
  end
end
return {online, published[2] or '0', published[3] or '0', lives}
