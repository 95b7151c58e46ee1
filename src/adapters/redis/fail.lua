-- KEYS: verification. ARGV: remembrance, salt, entry. Ends it if that mail's code is still the live one. Answers 1
-- where the mail's entry may be given back: it opened the verification, and no guess was spent.
local remembrance = tonumber(ARGV[1])
local v = load(remembrance)
if not v then return 0 end
if v.salt == ARGV[2] and v.state == OPEN and now < v.expires_at then
  v.state, v.rest = FAILED, ''
  save(v, remembrance)
end
return v.entry == tonumber(ARGV[3]) and v.spent == 0 and 1 or 0
