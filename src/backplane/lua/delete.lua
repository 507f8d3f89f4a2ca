-- Forgets a stream. Its owner, if it runs, finds that it may write no more. KEYS: meta, log. ARGV: milliseconds for which
-- the owner may still come.
local owned = redis.call('HGET', KEYS[1], 'node')
redis.call('DEL', KEYS[1], KEYS[2])
if owned and owned ~= '' then
  redis.call('HSET', KEYS[1], 'node', 'deleted')
  redis.call('PEXPIRE', KEYS[1], ARGV[1])
end
return owned
