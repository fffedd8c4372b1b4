-- Moves how far a user has read, never back.
-- KEYS: the user's markers
-- ARGV: conversation, seq, and so on
-- Returns the seqs that were pending before, 0 for none.
local answer = {}
for i = 1, #ARGV, 2 do
  local was = tonumber(redis.call('HGET', KEYS[1], ARGV[i])) or 0
  if tonumber(ARGV[i + 1]) > was then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
  end
  answer[#answer + 1] = was
end
return answer
