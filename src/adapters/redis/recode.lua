-- KEYS: verification. ARGV: as for open. Answers how the code stands, or 'late', or the status that forbids it, or
-- nil.
local remembrance = tonumber(ARGV[1])
if now > tonumber(ARGV[7]) + tonumber(ARGV[8]) then return 'late' end
local v = load(remembrance)
if not v then return false end
local was = status(v, tonumber(ARGV[2]))
if was ~= 'pending' then return was end
recode(v, tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5], ARGV[6])
save(v, remembrance)
return live(v)
