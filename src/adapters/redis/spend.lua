-- KEYS: verification. ARGV: remembrance, guesses. Answers salt and hash, or the status that forbids it, or nil.
local remembrance, guesses = tonumber(ARGV[1]), tonumber(ARGV[2])
local v = load(remembrance)
if not v then return false end
local was = status(v, guesses)
if was ~= 'pending' then return was end
v.spent = v.spent + 1
save(v, remembrance)
return { v.salt, v.rest }
