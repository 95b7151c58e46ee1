-- Charges an IP, then runs another script if it was admitted. Before this come the two as
-- functions, `charge_ip` (charge.lua) and `after`, which read the local KEYS and ARGV.
-- KEYS: those of the first, then those of the second. ARGV: how many keys and arguments the first
-- has; its arguments, then those of the second.
-- Returns what the first returns, and if the IP was admitted what the second returns.
local all_keys, all_args = KEYS, ARGV
local keys, args = tonumber(ARGV[1]), tonumber(ARGV[2])
KEYS, ARGV = { unpack(all_keys, 1, keys) }, { unpack(all_args, 3, 2 + args) }
local charged = charge_ip()
if charged[1] == 0 then return { charged } end
KEYS, ARGV = { unpack(all_keys, keys + 1) }, { unpack(all_args, 3 + args) }
return { charged, after() }
