-- Charges an IP, then runs another script if it was admitted. Before this come the two as
-- functions, `charge_ip` (charge.lua) and `after`, which read the local KEYS and ARGV.
-- KEYS: those of the first, then those of the second. ARGV: how many keys the first has; its three
-- arguments, then those of the second.
-- Returns what the first returns, and if the IP was admitted what the second returns.
local all_keys, all_args = KEYS, ARGV
local keys = tonumber(ARGV[1])
KEYS, ARGV = { unpack(all_keys, 1, keys) }, { unpack(all_args, 2, 4) }
local charged = charge_ip()
if charged[1] == 0 then return { charged } end
KEYS, ARGV = { unpack(all_keys, keys + 1) }, { unpack(all_args, 5) }
return { charged, after() }
