-- Charges a send to a ledger, and reads what the next code of a pending verification must be hashed
-- with.
-- KEYS: verification, ledger. ARGV: retention (ms), max attempts; for the ledger as for charge.lua.
-- Returns what `charge` returns, then the salt and the pepper's name if there is such a
-- verification.
local answer = charge(3, KEYS[2])
local v = load(tonumber(ARGV[1]))
if v and status(v, tonumber(ARGV[2])) == 'pending' then
  answer[#answer + 1] = v.salt
  answer[#answer + 1] = select(2, digest_and_pepper(v.tail))
end
return answer
