-- KEYS: idempotency key. ARGV: fingerprint, claimant, id, how long it is kept. Answers 1 where it was the claimant's own.
local state, fingerprint, whose = held()
if state ~= CLAIMED or fingerprint ~= ARGV[1] or whose ~= ARGV[2] then return 0 end
hold(SETTLED, tonumber(ARGV[4]), ARGV[1], ARGV[3])
return 1
