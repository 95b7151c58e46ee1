-- Charges one action to a ledger.
-- KEYS: ledger. ARGV: partition, retention (ms), number of windows, windows. Returns what `charge`
-- returns.
return charge(KEYS[1], 1)
