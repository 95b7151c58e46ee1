-- Sliding window logs of ledgers: each a packed string of entries, oldest first. An entry is its id (six bytes: when it was made, in
-- ms, strictly rising) and its partition (eight bytes, or none in a ledger without partitions). `domain/ledger.rs` has the same rules.

local ID_BYTES = 6

local function read_log(key, partition_bytes)
  local packed = redis.call('GET', key) or ''
  local log = { key = key, size = ID_BYTES + partition_bytes, packed = packed }
  log.entries = #packed / log.size
  if log.entries % 1 ~= 0 then error('not a log') end
  return log
end

local function id_of(log, n)
  return (struct.unpack('>I6', log.packed, (n - 1) * log.size + 1))
end

-- Returns the index of the first entry that is younger than `span`. Ids rise, so a binary search finds it.
local function first_within(log, span)
  local low, high = 1, log.entries + 1
  while low < high do
    local middle = math.floor((low + high) / 2)
    if id_of(log, middle) + span > now then high = middle else low = middle + 1 end
  end
  return low
end

-- Writes the log. It expires once its newest entry is older than `retention`.
local function write_log(log, retention)
  redis.call('SET', log.key, log.packed, 'PX', string.format('%.0f', id_of(log, log.entries) + retention - now))
end

-- Returns the state of one window for an entry of this partition: the entries that it has room for, the time until its
-- oldest entry leaves it, and the time until it admits one more (ms). Only entries count whose partition begins with the
-- same `prefix` bytes.
local function state_of(log, partition, prefix, max, span)
  local first = first_within(log, span)
  local counted, oldest, in_the_way = log.entries + 1 - first, first, log.entries + 1 - max
  if prefix > 0 then
    counted, oldest, in_the_way = 0, nil, nil
    for n = log.entries, first, -1 do
      local from = (n - 1) * log.size + ID_BYTES
      if string.sub(log.packed, from + 1, from + prefix) == string.sub(partition, 1, prefix) then
        counted, oldest = counted + 1, n
        if counted == max then in_the_way = n end
      end
    end
  end
  local function until_left(n) return id_of(log, n) + span - now end
  local reset = counted > 0 and until_left(oldest) or 0
  local wait = counted >= max and until_left(in_the_way) or 0
  return math.max(0, max - counted), reset, wait
end

-- Returns the state of the tightest window: that with the longest wait, then with the least room, then the first. Windows
-- come as groups of three numbers: bytes of the partition that must match, max entries, span (ms).
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

-- Returns the windows whose count is the argument with this index; their numbers follow it.
local function windows_from(first)
  local windows = {}
  for n = first + 1, first + 3 * ARGV[first] do windows[#windows + 1] = tonumber(ARGV[n]) end
  return windows
end

-- Makes an entry in a ledger, unless a window is full. The arguments from index `first` are the partition, the retention
-- (ms; it may be longer than these windows), the number of windows, and the windows. Returns the id of the entry (0 if it
-- was refused) and the state of the tightest window: its index, room, reset, wait.
local function charge(key, first)
  local partition, retention, windows = ARGV[first], tonumber(ARGV[first + 1]), windows_from(first + 2)
  local log = read_log(key, #partition)
  local best = tightest(log, partition, windows)
  local id = 0
  if best.wait <= 0 then
    id = now
    if log.entries > 0 then id = math.max(id, id_of(log, log.entries) + 1) end
    local kept = string.sub(log.packed, (first_within(log, retention) - 1) * log.size + 1)
    log.packed = kept .. struct.pack('>I6', id) .. partition
    log.entries = #log.packed / log.size
    write_log(log, retention)
    best = tightest(log, partition, windows)
  end
  return { id, best.window, best.room, best.reset, best.wait }
end

-- Removes an entry, if it is still there. The log keeps its TTL.
local function refund(key, partition_bytes, id)
  local log = read_log(key, partition_bytes)
  local n = log.entries
  while n > 0 and id_of(log, n) > id do n = n - 1 end
  if n == 0 or id_of(log, n) ~= id then return end
  local rest = string.sub(log.packed, 1, (n - 1) * log.size) .. string.sub(log.packed, n * log.size + 1)
  if rest == '' then redis.call('DEL', key) else redis.call('SET', key, rest, 'KEEPTTL') end
end
