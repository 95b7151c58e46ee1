-- KEYS: idempotency key. ARGV: fingerprint, claimant, life of a claim. Answers 'begun', 'in progress', 'mismatch', or
-- {id}.
local state, fingerprint, whose = held()
if not state then
  hold(CLAIMED, tonumber(ARGV[3]), ARGV[1], ARGV[2])
  return 'begun'
end
if fingerprint ~= ARGV[1] then return 'mismatch' end
if state == CLAIMED then return 'in progress' end
return { whose }
