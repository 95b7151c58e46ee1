-- KEYS: verification. ARGV: remembrance, salt. Ends it if that mail's code is still the live one.
local remembrance = tonumber(ARGV[1])
local v = load(remembrance)
if v and v.salt == ARGV[2] and v.state == OPEN and now < v.expires_at then
  v.state, v.rest = FAILED, ''
  save(v, remembrance)
end
return 0
