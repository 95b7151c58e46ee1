-- Reads what `charge` would find, and charges nothing.
-- KEYS: ledger. ARGV: as for charge.lua. Returns what `charge` returns for a refusal.
local best = tightest(read_log(KEYS[1], #ARGV[1]), ARGV[1], windows_from(3))
return { 0, best.window, best.room, best.reset, best.wait }
