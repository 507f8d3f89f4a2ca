-- Appends entries to the log of all channels. Their numbers are microseconds, so that they grow even if the log is lost.
-- KEYS: log, last number, then for each entry the key of its publisher's id (the log's own: it has none).
-- ARGV: channel, most entries, age of the oldest in microseconds, retention of ids in milliseconds, then the entries.
-- Returns the numbers as texts.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local last = tonumber(redis.call('GET', KEYS[2]) or '0')
local numbers = {}
for i = 5, #ARGV do
  local id = KEYS[i - 2]
  local known = id ~= KEYS[1] and redis.call('GET', id)
  if known then
    numbers[#numbers + 1] = known
  else
    local seq = math.max(last + 1, now)
    local number = string.format('%.0f', seq)
    local head = number .. ' ' .. string.format('%.0f', last) .. '\n'
    redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], number .. '-0', 'e', head .. ARGV[i])
    redis.call('PUBLISH', ARGV[1], head .. ARGV[i])
    if id ~= KEYS[1] then redis.call('SET', id, number, 'PX', ARGV[4]) end
    numbers[#numbers + 1] = number
    last = seq
  end
end
redis.call('SET', KEYS[2], string.format('%.0f', last))
redis.call('XTRIM', KEYS[1], 'MINID', '~', string.format('%.0f', math.max(0, now - ARGV[3])) .. '-0')
return numbers
