-- Returns the hints that there are, each with its remaining time in milliseconds, or -1 for one without an end. KEYS: hints.
local found = {}
for _, key in ipairs(KEYS) do
  local message = redis.call('GET', key)
  if message then found[#found + 1] = {message, redis.call('PTTL', key)} end
end
return found
