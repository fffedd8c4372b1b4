-- Removes written markers of users, unless they have moved since.
-- KEYS: the markers of each user
-- ARGV: for each user: the number of markers, then for each marker: conversation, seq, version with time ("" for none)
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
