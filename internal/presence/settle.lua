-- Ends leases: moves the hint of each user to the next check, or removes it if that is 0. A hint whose score is not that of the
-- lease is left alone, because a pod has written it since.
-- KEYS: a shard of the deadlines
-- ARGV: for each user: user, score of the lease, next check in ms
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
