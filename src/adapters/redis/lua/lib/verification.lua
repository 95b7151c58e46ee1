-- The record of one verification at KEYS[1], and its rules. `domain/verification.rs` has the same
-- rules. The prologue before this defines `now` (ms) and `fence`.
--
-- A record is packed: format, delivery and state (four, two and two bits), whether it has extras
-- (one bit) and attempts (seven bits), id of the entry that paid for it, opened at (ms); then
-- expires at and delivery recorded at, both as ms after that; the fence that was up when it was
-- opened, the salt of its codes, the length of its encrypted details and the details, the extras,
-- then a tail. The tail is the hash of the newest code and the pepper's name while it is open, the
-- attempt's nonce and the time once it is approved, and empty once it is failed or canceled.
--
-- Extras are a byte that says which there are, then the code that was replaced and is still good:
-- its digest, its own end, until when it is good (ms after the opening); then the length of the
-- provider's id of the email, and the id.

-- The format of records. ARCHITECTURE.md ("What Redis stores") says how it may change.
local VERSION = 1
local OPEN, APPROVED, FAILED, CANCELED = 0, 1, 2, 3
local UNKNOWN, ACCEPTED, REFUSED = 0, 1, 2
local FORMAT, EARLIER, APPROVAL = '>BBI6I6I3I3c4c16I2c0', '>c32I3I3', '>c16I6'
-- Format 0 had no delivery and no extras, and the end as a time. It is read, and written no more.
local FORMAT_0 = '>BBI6I6I6c4c16I2c0'
local DIGEST_BYTES = 32

local function unpack_extras(v, packed, at)
  local extras
  extras, at = struct.unpack('B', packed, at)
  if extras % 2 == 1 then
    local earlier = {}
    earlier.digest, earlier.expires_at, earlier.good_until, at = struct.unpack(EARLIER, packed, at)
    earlier.expires_at = v.opened_at + earlier.expires_at
    earlier.good_until = v.opened_at + earlier.good_until
    v.earlier = earlier
  end
  if extras >= 2 then v.provider_id, at = struct.unpack('>Bc0', packed, at) end
  return at
end

local function unpack_record(packed)
  local first, second = string.byte(packed, 1, 2)
  local version, v, at = math.floor(first / 16), {}, nil
  if version == 0 then
    first, v.attempts, v.entry, v.opened_at, v.expires_at, v.fence, v.salt, v.encrypted, at = struct.unpack(FORMAT_0, packed)
    v.opened_at = math.min(v.opened_at, v.expires_at)
    v.state, v.delivery, v.recorded_at = first, UNKNOWN, v.opened_at
  elseif version == VERSION then
    local life, recorded
    first, second, v.entry, v.opened_at, life, recorded, v.fence, v.salt, v.encrypted, at = struct.unpack(FORMAT, packed)
    v.attempts, v.expires_at = second % 128, v.opened_at + life
    v.state, v.delivery, v.recorded_at = first % 4, math.floor(first / 4) % 4, v.opened_at + recorded
    if second >= 128 then at = unpack_extras(v, packed, at) end
  else
    error('a record of another format')
  end
  v.tail = string.sub(packed, at)
  return v
end

-- Returns the record, or nil if there is none or its retention is over. Any other value is an
-- error, because read as a record it could show a code as live that no attempt can approve.
local function load(retention)
  local packed = redis.call('GET', KEYS[1])
  if not packed then return nil end
  local v = unpack_record(packed)
  local ended = #v.tail == 0
  local fits = { [OPEN] = #v.tail > DIGEST_BYTES, [APPROVED] = #v.tail == 22, [FAILED] = ended, [CANCELED] = ended }
  if not fits[v.state] or v.delivery > REFUSED then error('not a record of a verification') end
  -- After a failover a code may be live that was used on the Redis before.
  if v.state == OPEN and v.fence ~= fence() then v.expires_at = math.min(v.expires_at, now) end
  if now >= v.expires_at + retention then return nil end
  return v
end

-- Writes the record. It expires when its retention is over.
local function save(v, retention)
  local function after_opening(time) return math.max(0, time - v.opened_at) end
  local extras = ''
  if v.earlier then
    local e = v.earlier
    extras = struct.pack(EARLIER, e.digest, after_opening(e.expires_at), after_opening(e.good_until))
  end
  if v.provider_id then extras = extras .. string.char(#v.provider_id) .. v.provider_id end
  local second = v.attempts
  if extras ~= '' then
    second = second + 128
    extras = string.char((v.earlier and 1 or 0) + (v.provider_id and 2 or 0)) .. extras
  end
  local packed = struct.pack(
    FORMAT, 16 * VERSION + 4 * v.delivery + v.state, second, v.entry, v.opened_at, after_opening(v.expires_at),
    after_opening(v.recorded_at), v.fence, v.salt, #v.encrypted, v.encrypted
  ) .. extras .. v.tail
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

-- Splits the hash of a code into its digest and the pepper's name.
local function digest_and_pepper(hash)
  return string.sub(hash, 1, DIGEST_BYTES), string.sub(hash, DIGEST_BYTES + 1)
end

-- Returns the code that was replaced, if it is still good.
local function good_earlier(v)
  if v.earlier and now < v.earlier.good_until then return v.earlier end
end

-- Ends an open verification: no code of it is left.
local function close(v, state, tail)
  v.state, v.tail, v.earlier = state, tail, nil
end

-- Makes a code the live one of a pending verification. Attempts that were taken stay taken. The
-- code before stays good until the earlier of its own end and the overlap, if both have one salt
-- and one pepper, so that one digest can be compared with both.
local function replace_code(v, life, max_lifetime, overlap, salt, hash)
  local digest, pepper = digest_and_pepper(v.tail)
  v.opened_at = math.min(v.opened_at, now)
  local latest = v.opened_at + max_lifetime
  local own_end = math.min(v.expires_at, latest)
  v.expires_at = math.min(now + life, latest)
  local good_until = math.min(own_end, now + overlap, v.expires_at)
  local is_good = now < good_until and salt == v.salt and select(2, digest_and_pepper(hash)) == pepper
  v.earlier = is_good and { digest = digest, expires_at = own_end, good_until = good_until } or nil
  v.salt, v.tail = salt, hash
  v.delivery, v.recorded_at, v.provider_id = UNKNOWN, now, nil
end

-- Returns whether it is the newest code. A closed verification has no codes: then it is taken to
-- be, as long as nothing is known of the delivery.
local function is_newest(v, digest)
  if v.state ~= OPEN then return v.delivery == UNKNOWN end
  return digest_and_pepper(v.tail) == digest
end

local function record_delivery(v, delivery, provider_id)
  v.delivery, v.recorded_at, v.provider_id = delivery, math.max(now, v.opened_at), provider_id
end
