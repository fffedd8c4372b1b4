-- Updates the mark, which shows that deadlines were swept without a gap. Watchers write the time into it at each sweep. If it is old, Redis
-- was unavailable, hung, or was restored from an old snapshot, or no watcher ran. Deadlines of open sockets may then have passed, so
-- pods get time to renew them before any user is claimed. Without a mark Redis has lost its memory, and there is no user to claim wrongly.
--
--   at fresh ──────────────► 1, at = now
--   at old, no resume ─────► 0, resume = now + wait
--   at old, resume ahead ──► 0
--   resume just passed ────► 1, at = now, no resume
--
-- KEYS: the mark
-- ARGV: ms that a mark is good for, ms to wait after a gap
-- Returns 1 if users may be claimed, 0 otherwise.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local good, wait = tonumber(ARGV[1]), tonumber(ARGV[2])
local mark = redis.call('HMGET', KEYS[1], 'at', 'resume')
local at, resume = tonumber(mark[1]), tonumber(mark[2])
local fresh = not at or (at <= now and now - at <= good)
if not fresh and resume then
  fresh = resume <= now and now - resume <= good -- the wait has just ended
  if not fresh and resume > now and resume - now <= wait then
    return 0 -- the wait continues
  end
end
if fresh then
  redis.call('HSET', KEYS[1], 'at', string.format('%.0f', now))
  redis.call('HDEL', KEYS[1], 'resume')
  return 1
end
redis.call('HSET', KEYS[1], 'resume', string.format('%.0f', now + wait))
return 0
