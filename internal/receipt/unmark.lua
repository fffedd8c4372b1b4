-- Removes a user's markers that were written, unless they have moved since.
-- KEYS: the user's markers
-- ARGV: conversation, seq, and so on
for i = 1, #ARGV, 2 do
  if redis.call('HGET', KEYS[1], ARGV[i]) == ARGV[i + 1] then
    redis.call('HDEL', KEYS[1], ARGV[i])
  end
end
return 0
