-- Takes one attempt at a verification, before the code is compared.
-- KEYS: verification; if the attempt is charged, the ledger.
-- ARGV: retention (ms), max attempts; for the ledger as for charge.lua.
-- Returns {'limited', …} with what `charge` returns for a refusal; {'taken', entry id, attempts,
-- encrypted details, salt, hash of the newest code, digest of the code before or ''}; the status
-- that forbids it; or nil.
local retention, max_attempts, entry = tonumber(ARGV[1]), tonumber(ARGV[2]), 0
if KEYS[2] then
  local charged = charge(3, KEYS[2])
  entry = charged[1]
  if entry == 0 then return { 'limited', unpack(charged) } end
end
local v = load(retention)
if not v then return false end
local was = status(v, max_attempts)
if was ~= 'pending' then return was end
v.attempts = v.attempts + 1
save(v, retention)
local earlier = good_earlier(v)
return { 'taken', entry, v.attempts, v.encrypted, v.salt, v.tail, earlier and earlier.digest or '' }
