-- Moves a user's pending markers forward; never back within one version of a marker.
-- KEYS: the user's markers
-- ARGV: for each marker: conversation, seq, version. The version is -1 if the read could not be looked up.
-- For each conversation the hash has its seq and a field "<conversation>:v" with "<version>:<time in ms>". Releases before that field
-- wrote only the seq, which counts as version 0.
-- Returns the seqs that were pending before under the same version, 0 for none.
local t = redis.call('TIME')
local now = string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000))
local answer = {}
for i = 1, #ARGV, 3 do
  local conversation, seq, version = ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
  local was = tonumber(redis.call('HGET', KEYS[1], conversation)) or 0
  local held = -1
  if was > 0 then
    local tag = redis.call('HGET', KEYS[1], conversation .. ':v') or '0:0'
    held = tonumber(string.match(tag, '^(-?%d+):')) or 0
  end
  if version == -1 then
    version = held
  elseif version > held and held ~= -1 then
    was = 0 -- the pending read is older than the move back of the marker
  elseif version < held then
    was = seq -- this read is older than the move back
  end
  if seq > was then
    redis.call('HSET', KEYS[1], conversation, ARGV[i + 1], conversation .. ':v', string.format('%d:%s', version, now))
  end
  answer[#answer + 1] = was
end
return answer
