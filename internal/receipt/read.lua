-- Adds readers to a message's batch, with the present time. Readers who are in it keep their time.
-- KEYS: the batch, its counter
-- ARGV: users
-- Returns the time in ms, followed by 1 for each new reader and 0 for each reader who was in the batch already.
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
