-- Moves a marker of a history that is over to where the histories part, unless it was moved since it was read.
-- KEYS: the user's markers
-- ARGV: conversation, the seq that was read, the seq to move it to, 0 for none; and so on
for i = 1, #ARGV, 3 do
  if redis.call('HGET', KEYS[1], ARGV[i]) == ARGV[i + 1] then
    if ARGV[i + 2] == '0' then
      redis.call('HDEL', KEYS[1], ARGV[i], ARGV[i] .. ':v')
    else
      redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 2])
    end
  end
end
return 0
