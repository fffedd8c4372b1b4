-- Keeps a lease that is ours, or ends it with 0 ms.
-- KEYS: the lease
-- ARGV: holder, ms
-- Returns 1, or 0 where it is another's by now.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
if ARGV[2] == '0' then
  return redis.call('DEL', KEYS[1])
end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
