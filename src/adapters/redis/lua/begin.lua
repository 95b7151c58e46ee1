-- Begins a request under an idempotency key, if the key is free.
-- KEYS: idempotency key. ARGV: fingerprint, token, time limit (ms).
-- Returns 'begun', 'in progress', 'mismatch', or {id} of what the request has led to.
local state, fingerprint, owner, until_then = read()
if not state then
  write(IN_PROGRESS, tonumber(ARGV[3]), ARGV[1], ARGV[2])
  return 'begun'
end
if fingerprint ~= ARGV[1] then return 'mismatch' end
if state == IN_PROGRESS then return 'in progress' end
if WAITS then write(DONE, until_then - now, fingerprint, owner) end
return { owner }
