-- Charges a bucket by GCRA (the leaky bucket as a meter: ITU-T I.371). The bucket is one number: the time in µs at which it will be full again.
-- KEYS[1] the bucket
-- ARGV[1] its size, ARGV[2] µs until one unit is refilled, ARGV[3] the charge in units; a negative charge gives units back
-- Returns 1 if the charge was allowed, 0 otherwise; the units left; µs until the charge will be allowed (0 if it was); µs until the bucket is full.
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local size, interval, cost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
-- The stored time is bounded by the present rule, because it may come from an earlier rule, or the clock may have been set back since.
local stored = math.min(tonumber(redis.call('GET', KEYS[1]) or 0), now + size * interval)
local whole = math.max(stored, now)
local after = math.max(whole + cost * interval, now)
local wait = after - size * interval - now
if cost > 0 and wait > 0 then
    return {0, math.floor((size * interval - (whole - now)) / interval), wait, whole - now}
end
if after > now then
    redis.call('SET', KEYS[1], string.format('%.0f', after), 'PX', math.ceil((after - now) / 1000))
else
    redis.call('DEL', KEYS[1])
end
return {1, math.floor((size * interval - (after - now)) / interval), 0, after - now}
