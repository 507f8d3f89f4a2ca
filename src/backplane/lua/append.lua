-- Appends a batch of events to a stream, and renews its owner's lease; with an end, it is the last one. A node that has
-- lost its lease to another must not write: its name no longer stands in the meta.
-- KEYS: meta, log. ARGV: node, lease and retention in milliseconds, channel, earliest position, first and last sequence
-- number of the batch (0: none), the batch, the end or '', the bytes of all events.
-- Returns {0: fenced, 1: appended, 2: not there}, whether it is to be cancelled, and the number of watching nodes.
local node = redis.call('HGET', KEYS[1], 'node')
if not node then return {2, 0, 0} end
if node ~= ARGV[1] then return {0, 0, 0} end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local last = tonumber(ARGV[7])
if last > tonumber(redis.call('HGET', KEYS[1], 'tail') or '0') then
  redis.call('XADD', KEYS[2], ARGV[7] .. '-0', 'first', ARGV[6], 'events', ARGV[8])
  redis.call('HSET', KEYS[1], 'tail', ARGV[7])
  redis.call('PUBLISH', ARGV[4], 'A' .. ARGV[6] .. ' ' .. ARGV[7] .. '\n' .. ARGV[8])
end
if ARGV[5] ~= '0' then
  -- An entry is named after its last event.
  redis.call('XTRIM', KEYS[2], 'MINID', (ARGV[5] + 1) .. '-0')
  redis.call('HSET', KEYS[1], 'earliest', ARGV[5])
end
redis.call('HSET', KEYS[1], 'lease', now + ARGV[2], 'bytes', ARGV[10])
if ARGV[9] ~= '' then
  redis.call('HSET', KEYS[1], 'end', ARGV[9], 'ended', time[1])
  redis.call('PUBLISH', ARGV[4], 'E')
end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
local watching = 0
local fields = redis.call('HGETALL', KEYS[1])
for i = 1, #fields, 2 do
  if string.sub(fields[i], 1, 6) == 'watch:' then
    if tonumber(fields[i + 1]) > now then
      watching = watching + 1
    else
      redis.call('HDEL', KEYS[1], fields[i])
    end
  end
end
return {1, redis.call('HEXISTS', KEYS[1], 'cancel'), watching}
