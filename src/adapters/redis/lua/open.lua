-- Opens a verification, or replaces the code of the pending one.
-- KEYS: verification. ARGV: retention (ms), max attempts, lifetime (ms), max lifetime (ms), overlap
-- (ms), salt, hash, entry id, max delay after the entry (ms), encrypted details. Returns the live
-- code, or 'late'.
local retention, life, entry = tonumber(ARGV[1]), tonumber(ARGV[3]), tonumber(ARGV[8])
if now > entry + tonumber(ARGV[9]) then return 'late' end
local v = load(retention)
if v and status(v, tonumber(ARGV[2])) == 'pending' then
  replace_code(v, life, tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6], ARGV[7])
else
  v = {
    state = OPEN, attempts = 0, entry = entry, opened_at = now, expires_at = now + life, fence = fence(),
    delivery = UNKNOWN, recorded_at = now, salt = ARGV[6], encrypted = ARGV[10], tail = ARGV[7]
  }
end
save(v, retention)
return live(v)
