-- Removes ids from an index unless they were touched since their scores were read.
-- KEYS: an index
-- ARGV: for each id: id, score
for i = 1, #ARGV, 2 do
  local score = redis.call('ZSCORE', KEYS[1], ARGV[i])
  if score and tonumber(score) == tonumber(ARGV[i + 1]) then
    redis.call('ZREM', KEYS[1], ARGV[i])
  end
end
return 0
