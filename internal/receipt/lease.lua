-- Extends a lease if the holder still has it, or ends it with 0 ms.
-- KEYS: the lease
-- ARGV: holder, ms
-- Returns 1, or 0 if the holder no longer has it.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
if ARGV[2] == '0' then
  return redis.call('DEL', KEYS[1])
end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
