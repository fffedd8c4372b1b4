-- Moves a marker of the previous history back to the point where the histories diverge, unless it has moved since it was read.
-- KEYS: the user's markers
-- ARGV: for each marker: conversation, the seq that was read, the seq to move it to (0 removes it)
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
