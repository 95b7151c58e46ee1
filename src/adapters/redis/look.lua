-- KEYS: verification. ARGV: remembrance, guesses. Answers what can be seen of it: status, spent, expires at, won at (or 0),
-- now, what it is about; or nil.
local v = load(tonumber(ARGV[1]))
if not v then return false end
local won_at = v.state == WON and select(2, struct.unpack(WIN, v.rest)) or 0
return { status(v, tonumber(ARGV[2])), v.spent, v.expires_at, won_at, now, v.sealed }
