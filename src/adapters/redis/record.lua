-- What every script shares: the record of one verification at KEYS[1], and its rules.
-- `now` (milliseconds) and `fence` are set by the prologue before this.
--
-- A record is packed: state, spent, the entry that paid for its opening, opened at, expires at (milliseconds), the
-- fence it was opened behind, the salt of its code, what it is about (sealed, with its length in front), then the rest,
-- which is the digest and the pepper's name while open, the winner's nonce and the time once won, nothing once failed
-- or canceled.

local OPEN, WON, FAILED, CANCELED = 0, 1, 2, 3
local FORMAT, WIN = '>BBI6I6I6c4c16I2c0', '>c16I6'

-- The record, or nil where there is none or it can no longer be asked about. A value that is no record is an
-- error: taken for one, it could pass a code off as live that no guess can win.
local function load(remembrance)
  local packed = redis.call('GET', KEYS[1])
  if not packed then return nil end
  local v = {}
  local rest
  v.state, v.spent, v.entry, v.opened_at, v.expires_at, v.fence, v.salt, v.sealed, rest = struct.unpack(FORMAT, packed)
  v.rest = string.sub(packed, rest)
  local ended = #v.rest == 0
  local fits = { [OPEN] = #v.rest > 32, [WON] = #v.rest == 22, [FAILED] = ended, [CANCELED] = ended }
  if not fits[v.state] then error('not a record of a verification') end
  -- On a Redis that took over, a code may be live that was used up where it comes from.
  if v.state == OPEN and v.fence ~= fence() then v.expires_at = math.min(v.expires_at, now) end
  if now >= v.expires_at + remembrance then return nil end
  return v
end

-- Writes the record; it goes by itself once nobody can ask about it.
local function save(v, remembrance)
  local packed = struct.pack(
    FORMAT, v.state, v.spent, v.entry, v.opened_at, v.expires_at, v.fence, v.salt, #v.sealed, v.sealed
  ) .. v.rest
  local ttl = math.max(1, v.expires_at + remembrance - now)
  redis.call('SET', KEYS[1], packed, 'PX', string.format('%.0f', ttl))
end

local function status(v, guesses)
  if v.state == WON then return 'approved' end
  if v.state == FAILED then return 'failed' end
  if v.state == CANCELED then return 'canceled' end
  if v.spent >= guesses then return 'exhausted' end
  if now >= v.expires_at then return 'expired' end
  return 'pending'
end

-- How its live code stands: valid for, expires at, guesses spent.
local function live(v)
  return { v.expires_at - now, v.expires_at, v.spent }
end

-- Makes a code the live one of a pending verification.
local function recode(v, life, longest_life, salt, hash)
  v.expires_at = math.min(now + life, v.opened_at + longest_life)
  v.salt, v.rest = salt, hash
end
