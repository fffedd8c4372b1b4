-- Ends leases: moves users to when to look next, or, with 0, forgets them; but not those whose score has changed since.
-- KEYS: a shard of the deadlines
-- ARGV: user, lease, next in ms, and so on
for i = 1, #ARGV, 3 do
  local score = redis.call('ZSCORE', KEYS[1], ARGV[i])
  if score and tonumber(score) == tonumber(ARGV[i + 1]) then
    if ARGV[i + 2] == '0' then
      redis.call('ZREM', KEYS[1], ARGV[i])
    else
      redis.call('ZADD', KEYS[1], ARGV[i + 2], ARGV[i])
    end
  end
end
return 0
