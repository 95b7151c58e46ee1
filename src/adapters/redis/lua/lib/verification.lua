-- The record of one verification at KEYS[1], and its rules. `domain/verification.rs` has the same
-- rules. The prologue before this defines `now` (ms) and `fence`.
--
-- A record is packed: format and state (four bits each), attempts, id of the entry that paid for
-- it, opened at, expires at (ms), the fence that was up when it was opened, the salt of its code,
-- the length of its encrypted details and the details, then a tail. The tail is the hash and the
-- pepper's name while it is open, the attempt's nonce and the time once it is approved, and empty
-- once it is failed or canceled.

-- The format of records. ARCHITECTURE.md ("What Redis stores") says how it may change.
local VERSION = 0
local OPEN, APPROVED, FAILED, CANCELED = 0, 1, 2, 3
local FORMAT, APPROVAL = '>BBI6I6I6c4c16I2c0', '>c16I6'

-- Returns the record, or nil if there is none or its retention is over. Any other value is an
-- error, because read as a record it could show a code as live that no attempt can approve.
local function load(retention)
  local packed = redis.call('GET', KEYS[1])
  if not packed then return nil end
  local v = {}
  local tail
  local first
  first, v.attempts, v.entry, v.opened_at, v.expires_at, v.fence, v.salt, v.encrypted, tail = struct.unpack(FORMAT, packed)
  if math.floor(first / 16) ~= VERSION then error('a record of another format') end
  v.state, v.tail = first % 16, string.sub(packed, tail)
  local ended = #v.tail == 0
  local fits = { [OPEN] = #v.tail > 32, [APPROVED] = #v.tail == 22, [FAILED] = ended, [CANCELED] = ended }
  if not fits[v.state] then error('not a record of a verification') end
  -- After a failover a code may be live that was used on the Redis before.
  if v.state == OPEN and v.fence ~= fence() then v.expires_at = math.min(v.expires_at, now) end
  if now >= v.expires_at + retention then return nil end
  return v
end

-- Writes the record. It expires when its retention is over.
local function save(v, retention)
  local packed = struct.pack(
    FORMAT, 16 * VERSION + v.state, v.attempts, v.entry, v.opened_at, v.expires_at, v.fence, v.salt, #v.encrypted, v.encrypted
  ) .. v.tail
  local ttl = math.max(1, v.expires_at + retention - now)
  redis.call('SET', KEYS[1], packed, 'PX', string.format('%.0f', ttl))
end

-- Writes again what is stored already, if calls wait for replicas. The answer tells that a
-- verification ended, and `WAIT` counts the writes of its own connection, while another one may
-- have written the end.
local function rewrite(v, retention)
  if WAITS then save(v, retention) end
end

local function status(v, max_attempts)
  if v.state == APPROVED then return 'approved' end
  if v.state == FAILED then return 'failed' end
  if v.state == CANCELED then return 'canceled' end
  if v.attempts >= max_attempts then return 'exhausted' end
  if now >= v.expires_at then return 'expired' end
  return 'pending'
end

-- Returns the live code: valid for (ms), expires at, attempts taken.
local function live(v)
  return { v.expires_at - now, v.expires_at, v.attempts }
end

-- Makes a code the live one of a pending verification. Attempts that were taken stay taken.
local function replace_code(v, life, max_lifetime, salt, hash)
  v.expires_at = math.min(now + life, v.opened_at + max_lifetime)
  v.salt, v.tail = salt, hash
end
