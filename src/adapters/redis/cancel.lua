-- KEYS: verification. ARGV: remembrance, guesses. Ends it if it is pending. Answers how it stands then, or nil.
local remembrance, guesses = tonumber(ARGV[1]), tonumber(ARGV[2])
local v = load(remembrance)
if not v then return false end
if status(v, guesses) == 'pending' then
  v.state, v.rest = CANCELED, ''
  save(v, remembrance)
end
return status(v, guesses)
