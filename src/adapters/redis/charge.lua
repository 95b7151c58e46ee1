-- KEYS: logs. ARGV: mark, how long entries are kept, number of windows, windows. Answers as `charge` does.
local mark, logs = ARGV[1], {}
for n, key in ipairs(KEYS) do logs[n] = read_log(key, #mark) end
return charge(logs, mark, numbers(4, 3 + 4 * ARGV[3]), tonumber(ARGV[2]))
