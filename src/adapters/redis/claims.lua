-- What the scripts of idempotency keys share. A key holds, packed: whether it is settled, until when it counts
-- (milliseconds), the fingerprint of the body, then the claimant, or once it is settled the id.

local CLAIMED, SETTLED = 0, 1
local HELD = '>BI6c16c16'

local function hold(state, life, fingerprint, whose)
  redis.call('SET', KEYS[1], struct.pack(HELD, state, now + life, fingerprint, whose), 'PX', life)
end

-- State, fingerprint and claimant or id; nil where the key is free.
local function held()
  local packed = redis.call('GET', KEYS[1])
  if not packed then return nil end
  if #packed ~= 39 then error('not an idempotency key') end
  local state, until_then, fingerprint, whose = struct.unpack(HELD, packed)
  if now >= until_then then return nil end
  return state, fingerprint, whose
end
