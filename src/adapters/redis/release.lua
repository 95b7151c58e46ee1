-- KEYS: idempotency key. ARGV: fingerprint, claimant. Answers 1 where it was the claimant's own.
local state, fingerprint, whose = held()
if state ~= CLAIMED or fingerprint ~= ARGV[1] or whose ~= ARGV[2] then return 0 end
redis.call('DEL', KEYS[1])
return 1
