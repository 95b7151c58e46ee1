-- Reads what `charge` would find, and charges nothing.
-- KEYS and ARGV: as for charge.lua. Returns what `charge` returns for a refusal.
local best = tightest(read_logs(#ARGV[1], KEYS[1], KEYS[2]), ARGV[1], unpacked(ARGV[3]))
return { 0, best.window, best.room, best.reset, best.wait }
