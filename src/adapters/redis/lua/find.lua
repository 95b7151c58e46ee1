-- KEYS: verification. ARGV: retention (ms), max attempts.
-- Returns nil, or: status, attempts, expires at, approved at (or 0), now, encrypted details.
local v = load(tonumber(ARGV[1]))
if not v then return false end
local approved_at = v.state == APPROVED and select(2, struct.unpack(APPROVAL, v.tail)) or 0
return { status(v, tonumber(ARGV[2])), v.attempts, v.expires_at, approved_at, now, v.encrypted }
