-- KEYS: verification, and where its site was charged for the guess that site's log. ARGV: remembrance, salt, nonce,
-- entry. Answers the one token that wins when that was, every other 0.
local remembrance = tonumber(ARGV[1])
local v = load(remembrance)
if not v or v.salt ~= ARGV[2] then return 0 end
if v.state == WON then
  local nonce, won_at = struct.unpack(WIN, v.rest)
  return nonce == ARGV[3] and won_at or 0
end
if v.state ~= OPEN or now >= v.expires_at then return 0 end
v.state, v.rest = WON, struct.pack(WIN, ARGV[3], now)
save(v, remembrance)
if KEYS[2] then give_back(KEYS[2], 0, tonumber(ARGV[4])) end
return now
