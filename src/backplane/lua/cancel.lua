-- Asks a stream's owner to cancel it. KEYS: meta. Returns the owner's node, or nothing when there is none to ask.
local meta = redis.call('HMGET', KEYS[1], 'node', 'end')
if not meta[1] or meta[1] == '' or meta[2] then return false end
redis.call('HSET', KEYS[1], 'cancel', '1')
return meta[1]
