-- Removes written readers from the batches of messages, but only at the score that was written.
-- KEYS: for each batch: the batch, its counter
-- ARGV: for each batch: the number of readers, then for each reader: user, score
local at = 1
for k = 1, #KEYS, 2 do
  local last = at + 2 * ARGV[at]
  for i = at + 1, last, 2 do
    local score = redis.call('ZSCORE', KEYS[k], ARGV[i])
    if score and tonumber(score) == tonumber(ARGV[i + 1]) then
      redis.call('ZREM', KEYS[k], ARGV[i])
    end
  end
  at = last + 1
  local left = redis.call('ZCARD', KEYS[k])
  if left == 0 then
    redis.call('DEL', KEYS[k + 1])
  else
    redis.call('SET', KEYS[k + 1], left)
  end
end
return 0
