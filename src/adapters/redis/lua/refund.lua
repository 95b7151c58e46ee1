-- KEYS: ledger. ARGV: bytes of a partition, entry id. Returns 0.
refund(KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]))
return 0
