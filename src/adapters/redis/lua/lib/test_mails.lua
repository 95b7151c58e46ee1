-- The captured emails of a sandbox key at KEYS[1], packed: a byte with the format in its upper
-- half, then the emails, newest first. Each is its time (ms), its length, and the encrypted email.

-- The format. ARCHITECTURE.md ("What Redis stores") says how it may change.
local VERSION = 0
local HEAD = '>I6I4'
local HEAD_BYTES = 10

-- Calls `visit` with the time of each email whose retention is not over, where it begins, where its
-- content begins, and where it ends.
local function each(packed, retention, visit)
  if math.floor(string.byte(packed) / 16) ~= VERSION then error('test mails of another format') end
  local at = 2
  while at <= #packed do
    local received_at, length = struct.unpack(HEAD, packed, at)
    local last = at + HEAD_BYTES + length - 1
    if last > #packed then error('not test mails') end
    if now < received_at + retention then visit(received_at, at, at + HEAD_BYTES, last) end
    at = last + 1
  end
end
