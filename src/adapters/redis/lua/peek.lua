-- Reads what `charge` would find, and charges nothing.
-- KEYS: log. ARGV: partition, number of windows, windows. Returns what `charge` returns for a refusal.
local partition = ARGV[1]
local best = tightest({ read_log(KEYS[1], #partition) }, partition, numbers(3, 2 + 4 * ARGV[2]))
return { 0, best.window, best.room, best.reset, best.wait }
