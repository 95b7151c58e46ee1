-- Cancels a verification if it is pending.
-- KEYS: verification. ARGV: retention (ms), max attempts. Returns its status afterwards, or nil.
local retention, max_attempts = tonumber(ARGV[1]), tonumber(ARGV[2])
local v = load(retention)
if not v then return false end
if status(v, max_attempts) == 'pending' then
  close(v, CANCELED, '')
  save(v, retention)
elseif v.state == CANCELED then
  rewrite(v, retention)
end
return status(v, max_attempts)
