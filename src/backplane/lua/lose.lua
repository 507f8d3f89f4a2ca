-- Ends a stream whose owner's lease has run out, with a last event. KEYS: meta, log. ARGV: the tail that the caller has
-- read, channel, the event, the end, retention in milliseconds.
-- Returns whether it was ended by this call.
local meta = redis.call('HMGET', KEYS[1], 'lease', 'end', 'tail')
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if not meta[1] or meta[2] or tonumber(meta[1]) > now or (meta[3] or '0') ~= ARGV[1] then return 0 end
local last = ARGV[1] + 1
redis.call('HSET', KEYS[1], 'node', '', 'tail', last, 'end', ARGV[4], 'ended', time[1])
redis.call('XADD', KEYS[2], last .. '-0', 'first', last, 'events', ARGV[3])
redis.call('PUBLISH', ARGV[2], 'A' .. last .. ' ' .. last .. '\n' .. ARGV[3])
redis.call('PUBLISH', ARGV[2], 'E')
redis.call('PEXPIRE', KEYS[1], ARGV[5])
redis.call('PEXPIRE', KEYS[2], ARGV[5])
return 1
