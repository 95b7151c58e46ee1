-- Replaces the code of a pending verification.
-- KEYS: verification. ARGV: as for open.lua. Returns the live code, 'late', the status that forbids
-- it, or nil.
local retention = tonumber(ARGV[1])
if now > tonumber(ARGV[8]) + tonumber(ARGV[9]) then return 'late' end
local v = load(retention)
if not v then return false end
local was = status(v, tonumber(ARGV[2]))
if was ~= 'pending' then return was end
replace_code(v, tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6], ARGV[7])
save(v, retention)
return live(v)
