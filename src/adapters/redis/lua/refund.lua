-- KEYS: ledger; if it has one, the ledger of the partition. ARGV: bytes of a partition in the
-- ledger, entry id. Returns 0.
refund(KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]))
if KEYS[2] then refund(KEYS[2], 0, tonumber(ARGV[2])) end
return 0
