-- Stores the result of a request under its idempotency key.
-- KEYS: idempotency key. ARGV: fingerprint, token, id, retention (ms). Returns 1 if the token had
-- begun it, else 0.
local state, fingerprint, owner = read()
-- A repeated call writes again, because `WAIT` counts the writes of its own connection.
if state == DONE and fingerprint == ARGV[1] and owner == ARGV[3] then state, owner = IN_PROGRESS, ARGV[2] end
if state ~= IN_PROGRESS or fingerprint ~= ARGV[1] or owner ~= ARGV[2] then return 0 end
write(DONE, tonumber(ARGV[4]), ARGV[1], ARGV[3])
return 1
