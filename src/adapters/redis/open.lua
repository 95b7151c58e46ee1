-- KEYS: verification. ARGV: remembrance, guesses, life, longest life, salt, hash. Answers how long it is valid.
local remembrance, life = tonumber(ARGV[1]), tonumber(ARGV[3])
local v = load(remembrance)
if v and status(v, tonumber(ARGV[2])) == 'pending' then
  recode(v, life, tonumber(ARGV[4]), ARGV[5], ARGV[6])
else
  v = { state = OPEN, spent = 0, opened_at = now, expires_at = now + life, salt = ARGV[5], rest = ARGV[6] }
end
save(v, remembrance)
return v.expires_at - now
