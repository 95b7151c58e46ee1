-- Ends the code of an email that was refused. If it is the newest, the code before is the live one
-- again if it is still good; otherwise the verification has failed.
-- KEYS: verification. ARGV: retention (ms), digest, entry id.
-- Returns 1 if the entry may be refunded: it opened the verification, and no attempt was taken.
local retention, digest = tonumber(ARGV[1]), ARGV[2]
local v = load(retention)
if not v then return 0 end
local pepper = select(2, digest_and_pepper(v.tail))
if is_newest(v, digest) then
  record_delivery(v, REFUSED)
  if v.state == OPEN and now < v.expires_at then
    local earlier = good_earlier(v)
    if earlier then
      v.tail, v.expires_at, v.earlier = earlier.digest .. pepper, earlier.expires_at, nil
    else
      close(v, FAILED, '')
    end
  end
  save(v, retention)
elseif v.earlier and v.earlier.digest == digest then
  v.earlier = nil
  save(v, retention)
end
return v.entry == tonumber(ARGV[3]) and v.attempts == 0 and 1 or 0
