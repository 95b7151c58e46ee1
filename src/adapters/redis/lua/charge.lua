-- Charges one action to sliding logs: to all of them or to none.
-- KEYS: logs. ARGV: partition, retention (ms), number of windows, windows. Returns what `charge` returns.
local partition, logs = ARGV[1], {}
for n, key in ipairs(KEYS) do logs[n] = read_log(key, #partition) end
return charge(logs, partition, numbers(4, 3 + 4 * ARGV[3]), tonumber(ARGV[2]))
