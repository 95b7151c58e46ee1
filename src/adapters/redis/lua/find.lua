-- KEYS: verification. ARGV: retention (ms), max attempts.
-- Returns nil, or: status, attempts, expires at, approved at (or 0), now, encrypted details.
local retention, approved_at = tonumber(ARGV[1]), 0
local v = load(retention)
if not v then return false end
if v.state == APPROVED then
  approved_at = select(2, struct.unpack(APPROVAL, v.tail))
  rewrite(v, retention)
end
return { status(v, tonumber(ARGV[2])), v.attempts, v.expires_at, approved_at, now, v.encrypted }
