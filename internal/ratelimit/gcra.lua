-- Takes from a bucket by GCRA (the leaky bucket as a meter: ITU-T I.371). The bucket is one number, the time in µs at
-- which it is whole again.
-- KEYS[1] the bucket
-- ARGV[1] its size, ARGV[2] µs until one is given back, ARGV[3] how many are taken; 0 only looks whether one is there
-- Answers whether it may be, how many are left, µs until it may be (0 if it may), µs until the bucket is whole.
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local size, interval, cost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local whole = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), now)
local after = whole + math.max(cost, 1) * interval
local wait = after - size * interval - now
if wait > 0 then
    return {0, 0, wait, whole - now}
end
if cost == 0 then
    return {1, math.floor((size * interval - (whole - now)) / interval), 0, whole - now}
end
redis.call('SET', KEYS[1], string.format('%.0f', after), 'PX', math.ceil((after - now) / 1000))
return {1, math.floor((size * interval - (after - now)) / interval), 0, after - now}
