-- Removes users' markers that were written, unless they have moved since.
-- KEYS: a user's markers, and so on
-- ARGV: for each user how many, then conversation, seq, version with time ("" for none), and so on
local at = 1
for k = 1, #KEYS do
  local last = at + 3 * ARGV[at]
  for i = at + 1, last, 3 do
    local tag = redis.call('HGET', KEYS[k], ARGV[i] .. ':v') or ''
    if redis.call('HGET', KEYS[k], ARGV[i]) == ARGV[i + 1] and tag == ARGV[i + 2] then
      redis.call('HDEL', KEYS[k], ARGV[i], ARGV[i] .. ':v')
    end
  end
  at = last + 1
end
return 0
