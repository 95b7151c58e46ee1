-- KEYS: verification. ARGV: remembrance, guesses, life, longest life, salt, hash, entry, slowest opening,
-- what it is about. Answers how the code stands, or 'late'.
local remembrance, life, entry = tonumber(ARGV[1]), tonumber(ARGV[3]), tonumber(ARGV[7])
if now > entry + tonumber(ARGV[8]) then return 'late' end
local v = load(remembrance)
if v and status(v, tonumber(ARGV[2])) == 'pending' then
  recode(v, life, tonumber(ARGV[4]), ARGV[5], ARGV[6])
else
  v = {
    state = OPEN, spent = 0, entry = entry, opened_at = now, expires_at = now + life, fence = fence(),
    salt = ARGV[5], sealed = ARGV[9], rest = ARGV[6]
  }
end
save(v, remembrance)
return live(v)
