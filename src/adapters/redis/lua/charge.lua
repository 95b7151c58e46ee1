-- Charges one action to a ledger.
-- KEYS: ledger; if it has one, the ledger of the partition. ARGV: partition, retention (ms), packed
-- windows. Returns what `charge` returns.
return charge(1, KEYS[1], KEYS[2])
