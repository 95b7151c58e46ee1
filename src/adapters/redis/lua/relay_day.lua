-- KEYS: the relay's day. ARGV: mails to count, 0 or 1. Answers how many there were in the last day.
-- Packed: the number of the newest hour, then the mails of the 25 hours that end with it, newest first.
local HOURS, HOUR = 25, 3600000
local packed = redis.call('GET', KEYS[1])
local hour, mails = math.floor(now / HOUR), {}
local newest = packed and struct.unpack('>I4', packed) or hour
hour = math.max(hour, newest)
local sum = 0
for n = 1, HOURS do
  local was = n - (hour - newest)
  mails[n] = packed and was >= 1 and struct.unpack('>I4', packed, 1 + 4 * was) or 0
  sum = sum + mails[n]
end
if ARGV[1] == '1' then
  mails[1] = mails[1] + 1
  redis.call('SET', KEYS[1], struct.pack('>I4', hour) .. struct.pack('>' .. string.rep('I4', HOURS), unpack(mails)),
    'PX', HOURS * HOUR)
end
return sum
