-- Sliding window logs of ledgers: each a packed string of entries, oldest first. An entry is its id
-- (six bytes: when it was made, in ms, strictly rising) and its partition (eight bytes, or none in
-- a ledger without partitions). `domain/ledger.rs` has the same rules.

local ID_BYTES = 6
-- A log without partitions that is longer than this, in bytes, is read in pieces.
local LONG = 1024
-- The entries of a piece. A search of 50,000 entries reads ten.
local PIECE = 64

-- Returns a log, which is read as a whole if it is short. Entries with partitions are counted by
-- walking them, so a log of such is read as a whole too.
local function read_log(key, partition_bytes)
  local log = { key = key, size = ID_BYTES + partition_bytes, pieces = {}, matches = {} }
  if partition_bytes > 0 then
    log.packed = redis.call('GET', key) or ''
    log.bytes = #log.packed
  else
    log.packed = redis.call('GETRANGE', key, 0, LONG)
    log.bytes = #log.packed
    if log.bytes > LONG then
      log.packed, log.bytes = nil, redis.call('STRLEN', key)
    end
  end
  log.entries = log.bytes / log.size
  if log.entries % 1 ~= 0 then error('not a log') end
  return log
end

-- Returns a log, and that of the partition of the entry, if it has one of its own.
local function read_logs(partition_bytes, key, partition_key)
  local log = read_log(key, partition_bytes)
  if partition_key then log.of_partition = read_log(partition_key, 0) end
  return log
end

local function id_of(log, n)
  if log.packed then return (struct.unpack('>I6', log.packed, (n - 1) * log.size + 1)) end
  local at = math.floor((n - 1) / PIECE)
  local piece = log.pieces[at]
  if not piece then
    local from = at * PIECE * log.size
    piece = redis.call('GETRANGE', log.key, from, from + PIECE * log.size - 1)
    log.pieces[at] = piece
  end
  return (struct.unpack('>I6', piece, (n - 1 - at * PIECE) * log.size + 1))
end

-- Returns the index of the first entry whose id is greater than `id`. Ids rise. Every other step of
-- the search takes them to rise evenly, so that it reads few pieces; the others halve what is left.
local function first_after(log, id)
  if log.entries == 0 then return 1 end
  local low, high = 1, log.entries
  local id_low, id_high = id_of(log, low), id_of(log, high)
  if id_low > id then return low end
  if id_high <= id then return high + 1 end
  local is_guess = true
  while high - low > 1 do
    local share = is_guess and (id - id_low) / (id_high - id_low) or 0.5
    local at = math.max(low + 1, math.min(high - 1, low + math.floor(share * (high - low))))
    local found = id_of(log, at)
    if found > id then high, id_high = at, found else low, id_low = at, found end
    is_guess = not is_guess
  end
  return high
end

-- Returns the index of the first entry that is younger than `span`.
local function first_within(log, span)
  return first_after(log, now - span)
end

-- Returns the index in a rising list of the first number that is not less than `least`.
local function first_from(list, least)
  local low, high = 1, #list + 1
  while low < high do
    local middle = math.floor((low + high) / 2)
    if list[middle] >= least then high = middle else low = middle + 1 end
  end
  return low
end

-- Returns the indexes of the entries whose partition begins with these bytes, walking the log once
-- for all windows.
local function matching(log, bytes)
  if log.matches[bytes] then return log.matches[bytes] end
  local found, from = {}, 1
  while true do
    local at = string.find(log.packed, bytes, from, true)
    if not at then break end
    local n = math.floor((at - 1) / log.size) + 1
    if at == (n - 1) * log.size + ID_BYTES + 1 then
      found[#found + 1] = n
      from = n * log.size + 1
    else
      from = at + 1
    end
  end
  log.matches[bytes] = found
  return found
end

-- Returns the state of one window for an entry of this partition: the entries that it has room for,
-- the time until its oldest entry leaves it, and the time until it admits one more (ms). Only
-- entries count whose partition begins with the same `prefix` bytes.
local function state_of(log, partition, prefix, max, span)
  if prefix > 0 and log.of_partition then log, prefix = log.of_partition, 0 end
  local first = first_within(log, span)
  local counted, oldest, in_the_way = log.entries + 1 - first, first, log.entries + 1 - max
  if prefix > 0 then
    local found = matching(log, string.sub(partition, 1, prefix))
    local young = first_from(found, first)
    counted, oldest, in_the_way = #found + 1 - young, found[young], found[#found + 1 - max]
  end
  local function until_left(n) return id_of(log, n) + span - now end
  local reset = counted > 0 and until_left(oldest) or 0
  local wait = counted >= max and until_left(in_the_way) or 0
  return math.max(0, max - counted), reset, wait
end

-- Returns the state of the tightest window: that with the longest wait, then with the least room,
-- then the first. Windows come as groups of three numbers: bytes of the partition that must match,
-- max entries, span (ms).
local function tightest(log, partition, windows)
  local best
  for n = 1, #windows, 3 do
    local room, reset, wait = state_of(log, partition, windows[n], windows[n + 1], windows[n + 2])
    if not best or wait > best.wait or (wait == best.wait and room < best.room) then
      best = { window = (n - 1) / 3, room = room, reset = reset, wait = wait }
    end
  end
  return best
end

-- Returns the windows that are packed in an argument, in 11 bytes each: bytes of the partition that
-- must match, max entries, span (ms).
local function unpacked(packed)
  local windows = {}
  for at = 1, #packed, 11 do
    local n = #windows
    windows[n + 1], windows[n + 2], windows[n + 3] = struct.unpack('>I1I4I6', packed, at)
  end
  return windows
end

-- Adds an entry and removes those that are older than `retention`. The key expires once the newest
-- entry is. A long log is appended to, and shortened when half of it is old: a `SET` of the whole
-- would go to the append-only file and the replicas with each entry.
local function add(log, id, partition, retention)
  local entry = struct.pack('>I6', id) .. partition
  local old = first_within(log, retention) - 1
  local ttl = string.format('%.0f', id + retention - now)
  if log.bytes > LONG and 2 * old < log.entries then
    redis.call('APPEND', log.key, entry)
    redis.call('PEXPIRE', log.key, ttl)
    if log.packed then log.packed = log.packed .. entry end
    -- The last piece has another entry, and so has each list of matches.
    log.pieces[math.floor(log.entries / PIECE)] = nil
    log.entries = log.entries + 1
    for _, found in pairs(log.matches) do found[#found + 1] = log.entries end
  else
    local rest = log.packed or redis.call('GET', log.key)
    log.packed = string.sub(rest, old * log.size + 1) .. entry
    redis.call('SET', log.key, log.packed, 'PX', ttl)
    log.entries, log.matches = #log.packed / log.size, {}
  end
end

-- Returns the lowest id that a new entry may have.
local function next_id(log)
  return log.entries > 0 and id_of(log, log.entries) + 1 or 0
end

-- Makes an entry in a ledger, and in that of its partition, unless a window is full. The arguments
-- from index `first` are the partition, the retention (ms; it may be longer than these windows),
-- and the packed windows. Returns the id of the entry (0 if it was refused) and the state of the
-- tightest window: its index, room, reset, wait.
local function charge(first, key, partition_key)
  local partition, retention, windows = ARGV[first], tonumber(ARGV[first + 1]), unpacked(ARGV[first + 2])
  local log = read_logs(#partition, key, partition_key)
  local best = tightest(log, partition, windows)
  local id = 0
  if best.wait <= 0 then
    id = math.max(now, next_id(log))
    -- If the clock steps back, the newest entry may be in this log alone: each drops what is old
    -- when it is added to.
    if log.of_partition then id = math.max(id, next_id(log.of_partition)) end
    add(log, id, partition, retention)
    if log.of_partition then add(log.of_partition, id, '', retention) end
    best = tightest(log, partition, windows)
  end
  return { id, best.window, best.room, best.reset, best.wait }
end

-- Removes an entry, if it is still there. The log keeps its TTL.
local function refund(key, partition_bytes, id)
  local log = read_log(key, partition_bytes)
  local n = first_after(log, id) - 1
  if n == 0 or id_of(log, n) ~= id then return end
  local packed = log.packed or redis.call('GET', key)
  local rest = string.sub(packed, 1, (n - 1) * log.size) .. string.sub(packed, n * log.size + 1)
  if rest == '' then redis.call('DEL', key) else redis.call('SET', key, rest, 'KEEPTTL') end
end
