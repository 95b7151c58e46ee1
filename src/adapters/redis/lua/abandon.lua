-- Frees an idempotency key.
-- KEYS: idempotency key. ARGV: fingerprint, token. Returns 1 if the token had begun it, else 0.
local state, fingerprint, owner = read()
if state ~= IN_PROGRESS or fingerprint ~= ARGV[1] or owner ~= ARGV[2] then return 0 end
redis.call('DEL', KEYS[1])
return 1
