-- Removes readers who were written from a message's batch: those alone whose score is the one that was written.
-- KEYS: the batch, its counter
-- ARGV: user, score, and so on
for i = 1, #ARGV, 2 do
  local score = redis.call('ZSCORE', KEYS[1], ARGV[i])
  if score and tonumber(score) == tonumber(ARGV[i + 1]) then
    redis.call('ZREM', KEYS[1], ARGV[i])
  end
end
local left = redis.call('ZCARD', KEYS[1])
if left == 0 then
  redis.call('DEL', KEYS[2])
else
  redis.call('SET', KEYS[2], left)
end
return left
