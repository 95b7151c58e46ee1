-- Ends a verification whose email was refused, if that email's code is still the live one.
-- KEYS: verification. ARGV: retention (ms), salt, entry id.
-- Returns 1 if the entry may be refunded: it opened the verification, and no attempt was taken.
local retention = tonumber(ARGV[1])
local v = load(retention)
if not v then return 0 end
if v.salt == ARGV[2] and v.state == OPEN and now < v.expires_at then
  v.state, v.tail = FAILED, ''
  save(v, retention)
end
return v.entry == tonumber(ARGV[3]) and v.attempts == 0 and 1 or 0
