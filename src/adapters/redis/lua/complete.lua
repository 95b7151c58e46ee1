-- Stores the result of a request under its idempotency key.
-- KEYS: idempotency key. ARGV: fingerprint, token, id, retention (ms). Returns 1 if the token had
-- begun it, else 0.
local state, fingerprint, owner = read()
if state ~= IN_PROGRESS or fingerprint ~= ARGV[1] or owner ~= ARGV[2] then return 0 end
write(DONE, tonumber(ARGV[4]), ARGV[1], ARGV[3])
return 1
