-- Checks for pods whether the mark (mark.lua) is old. If it is, they renew all their connections at once.
-- KEYS: the mark
-- ARGV: ms that a mark is good for
-- Returns the mark if it is old, "" if it is fresh or there is none.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local at = redis.call('HGET', KEYS[1], 'at')
if not at or (tonumber(at) <= now and now - at <= tonumber(ARGV[1])) then
  return ''
end
return at
