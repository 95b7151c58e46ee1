-- Records that an email was accepted, if its code is still the newest.
-- KEYS: verification. ARGV: retention (ms), digest, the provider's id of the email or ''.
-- Returns when it was recorded (ms), or nil.
local retention = tonumber(ARGV[1])
local v = load(retention)
if not v or not is_newest(v, ARGV[2]) then return false end
record_delivery(v, ACCEPTED, ARGV[3] ~= '' and ARGV[3] or nil)
save(v, retention)
return v.recorded_at
