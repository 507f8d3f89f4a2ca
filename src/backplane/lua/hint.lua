-- Keeps a hint for as long as it holds, unless it is there for longer, and publishes it. KEYS: hint, then those that it
-- ends. ARGV: message, time in milliseconds, or 0 for one without an end, channel.
for i = 2, #KEYS do redis.call('DEL', KEYS[i]) end
local time = tonumber(ARGV[2])
if time == 0 then
  redis.call('SET', KEYS[1], ARGV[1])
elseif redis.call('PTTL', KEYS[1]) < time then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
end
redis.call('PUBLISH', ARGV[3], ARGV[1])
