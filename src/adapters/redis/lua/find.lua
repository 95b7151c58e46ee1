-- KEYS: verification. ARGV: retention (ms), max attempts.
-- Returns nil, or: status, attempts, expires at, approved at (or 0), now, encrypted details,
-- delivery, when that was recorded, the provider's id of the email or '', then the salt and the
-- pepper's name if it is pending.
local retention, approved_at = tonumber(ARGV[1]), 0
local v = load(retention)
if not v then return false end
if v.state == APPROVED then
  approved_at = select(2, struct.unpack(APPROVAL, v.tail))
  rewrite(v, retention)
end
local is, deliveries = status(v, tonumber(ARGV[2])), { 'accepted', 'refused' }
local answer = {
  is, v.attempts, v.expires_at, approved_at, now, v.encrypted,
  deliveries[v.delivery] or 'unknown', v.recorded_at, v.provider_id or ''
}
if is == 'pending' then
  answer[#answer + 1] = v.salt
  answer[#answer + 1] = select(2, digest_and_pepper(v.tail))
end
return answer
