-- Keeps the mark by which claims see that Redis remembers the present. Watchers write the time into it at each sweep. If it is old, Redis
-- was away, hung, or was restored from an old snapshot, or no watcher ran: deadlines may be over whose sockets live, and pods get a
-- moment to renew them before anybody is claimed. Without a mark Redis has no memory, and so nobody to claim wrongly.
-- KEYS: the mark
-- ARGV: ms that a mark is good for, ms to wait after a gap
-- Returns 1 if users may be claimed, else 0.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local good, wait = tonumber(ARGV[1]), tonumber(ARGV[2])
local mark = redis.call('HMGET', KEYS[1], 'at', 'resume')
local at, resume = tonumber(mark[1]), tonumber(mark[2])
local fresh = not at or (at <= now and now - at <= good)
if not fresh and resume then
  fresh = resume <= now and now - resume <= good -- the wait is just over
  if not fresh and resume > now and resume - now <= wait then
    return 0 -- it goes on
  end
end
if fresh then
  redis.call('HSET', KEYS[1], 'at', string.format('%.0f', now))
  redis.call('HDEL', KEYS[1], 'resume')
  return 1
end
redis.call('HSET', KEYS[1], 'resume', string.format('%.0f', now + wait))
return 0
