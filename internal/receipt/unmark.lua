-- Removes users' markers that were written, unless they have moved since.
-- KEYS: a user's markers, and so on
-- ARGV: for each user how many, then conversation, seq, and so on
local at = 1
for k = 1, #KEYS do
  local last = at + 2 * ARGV[at]
  for i = at + 1, last, 2 do
    if redis.call('HGET', KEYS[k], ARGV[i]) == ARGV[i + 1] then
      redis.call('HDEL', KEYS[k], ARGV[i])
    end
  end
  at = last + 1
end
return 0
