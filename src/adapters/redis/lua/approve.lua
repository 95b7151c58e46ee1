-- Approves a verification for the first attempt that was right, and refunds that attempt.
-- KEYS: verification; if the attempt was charged, the ledger.
-- ARGV: retention (ms), salt, nonce of the attempt; for the ledger as for refund.lua.
-- Returns when it was approved (ms) for the one attempt that approves it, and 0 for every other.
local retention = tonumber(ARGV[1])
local v = load(retention)
if not v or v.salt ~= ARGV[2] then return 0 end
if v.state == APPROVED then
  local nonce, approved_at = struct.unpack(APPROVAL, v.tail)
  if nonce ~= ARGV[3] then return 0 end
  rewrite(v, retention)
  return approved_at
end
if v.state ~= OPEN or now >= v.expires_at then return 0 end
v.state, v.tail = APPROVED, struct.pack(APPROVAL, ARGV[3], now)
save(v, retention)
if KEYS[2] then refund(KEYS[2], tonumber(ARGV[4]), tonumber(ARGV[5])) end
return now
