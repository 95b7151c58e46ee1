-- Approves a verification for the first attempt that was right, and refunds that attempt.
-- KEYS: verification, ledgers that the attempt was charged to.
-- ARGV: retention (ms), digest, nonce of the attempt; for each ledger the bytes of a partition in
-- it and the entry id.
-- Returns when it was approved (ms) for the one attempt that approves it, and 0 for every other.
local retention = tonumber(ARGV[1])
local v = load(retention)
if not v then return 0 end
if v.state == APPROVED then
  local nonce, approved_at = struct.unpack(APPROVAL, v.tail)
  if nonce ~= ARGV[3] then return 0 end
  rewrite(v, retention)
  return approved_at
end
if v.state ~= OPEN or now >= v.expires_at then return 0 end
local earlier = good_earlier(v)
if digest_and_pepper(v.tail) ~= ARGV[2] and not (earlier and earlier.digest == ARGV[2]) then return 0 end
close(v, APPROVED, struct.pack(APPROVAL, ARGV[3], now))
save(v, retention)
for n = 2, #KEYS do refund(KEYS[n], tonumber(ARGV[2 * n]), tonumber(ARGV[2 * n + 1])) end
return now
