-- Adds users to the batch of those who read a message first now.
-- KEYS: the batch, its counter
-- ARGV: users
-- Returns the time in ms, and then for each user 1, or 0 where they are in the batch already.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local score, answer, added = string.format('%.0f', now), {now}, 0
for i, user in ipairs(ARGV) do
  answer[i + 1] = redis.call('ZADD', KEYS[1], 'NX', score, user)
  added = added + answer[i + 1]
end
if added > 0 then
  redis.call('INCRBY', KEYS[2], added)
end
return answer
