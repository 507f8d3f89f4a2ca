-- Reads a stream after a position, and notes whether this node watches it.
-- KEYS: meta, log. ARGV: node, position, most entries, milliseconds for which the node watches (0: it does not).
-- Returns its meta as fields and values with `left`, the milliseconds of its owner's lease that are left, and the
-- entries, each {first, last, events}. An end in the meta is the end once an answer has no entries.
local meta = redis.call('HGETALL', KEYS[1])
if #meta == 0 then return {meta, {}} end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for i = 1, #meta, 2 do
  if meta[i] == 'lease' then
    meta[#meta + 1] = 'left'
    meta[#meta + 1] = tostring(meta[i + 1] - now)
    break
  end
end
if ARGV[4] ~= '0' then
  redis.call('HSET', KEYS[1], 'watch:' .. ARGV[1], now + ARGV[4])
else
  redis.call('HDEL', KEYS[1], 'watch:' .. ARGV[1])
end
local entries = {}
for _, entry in ipairs(redis.call('XRANGE', KEYS[2], (ARGV[2] + 1) .. '-0', '+', 'COUNT', ARGV[3])) do
  local fields = entry[2]
  entries[#entries + 1] = {fields[2], string.match(entry[1], '^%d+'), fields[4]}
end
return {meta, entries}
