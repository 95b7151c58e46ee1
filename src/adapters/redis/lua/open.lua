-- Opens a verification, or replaces the code of the pending one.
-- KEYS: verification. ARGV: retention (ms), max attempts, lifetime (ms), max lifetime (ms), salt,
-- hash, entry id, max delay after the entry (ms), encrypted details. Returns the live code, or
-- 'late'.
local retention, life, entry = tonumber(ARGV[1]), tonumber(ARGV[3]), tonumber(ARGV[7])
if now > entry + tonumber(ARGV[8]) then return 'late' end
local v = load(retention)
if v and status(v, tonumber(ARGV[2])) == 'pending' then
  replace_code(v, life, tonumber(ARGV[4]), ARGV[5], ARGV[6])
else
  v = {
    state = OPEN, attempts = 0, entry = entry, opened_at = now, expires_at = now + life, fence = fence(),
    salt = ARGV[5], encrypted = ARGV[9], tail = ARGV[6]
  }
end
save(v, retention)
return live(v)
