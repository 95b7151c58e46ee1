-- An idempotency key at KEYS[1], packed: its format and state (four bits each), until when it
-- counts (ms), the fingerprint of the body, then the token of the request in progress, or the id
-- that a finished one has led to.

-- The format. ARCHITECTURE.md ("What Redis stores") says how it may change.
local VERSION = 0
local IN_PROGRESS, DONE = 0, 1
local FORMAT = '>BI6c16c16'

local function write(state, life, fingerprint, owner)
  redis.call('SET', KEYS[1], struct.pack(FORMAT, 16 * VERSION + state, now + life, fingerprint, owner), 'PX', life)
end

-- Returns state, fingerprint, token or id, and until when it counts; nil if the key is free.
local function read()
  local packed = redis.call('GET', KEYS[1])
  if not packed then return nil end
  if #packed ~= 39 then error('not an idempotency key') end
  local first, until_then, fingerprint, owner = struct.unpack(FORMAT, packed)
  if math.floor(first / 16) ~= VERSION then error('an idempotency key of another format') end
  local state = first % 16
  if now >= until_then then return nil end
  return state, fingerprint, owner, until_then
end
