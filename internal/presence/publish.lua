-- Prepended to touch.lua and claim.lua. Publishes a transition on the sharded channel, or on the plain one if there is no sharded channel, if
-- Redis refuses the command, or if the user may not use it.
local function publish(event, plain, sharded)
  if sharded ~= '' then
    local reply = redis.pcall('SPUBLISH', sharded, event)
    if type(reply) == 'number' then
      return
    end
  end
  redis.call('PUBLISH', plain, event)
end
