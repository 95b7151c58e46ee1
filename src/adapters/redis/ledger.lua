-- What every script shares that counts: logs, each a packed string of entries, oldest first. An entry is a stamp
-- (six octets, milliseconds, rising strictly) and a mark (`marks` octets: none, or tenant and site).

local STAMP = 6

local function read_log(key, marks)
  local packed = redis.call('GET', key) or ''
  local log = { key = key, size = STAMP + marks, packed = packed }
  log.entries = #packed / log.size
  if log.entries % 1 ~= 0 then error('not a log') end
  return log
end

local function stamp_of(log, n)
  return (struct.unpack('>I6', log.packed, (n - 1) * log.size + 1))
end

-- The number of the first entry that is less than `span` old: stamps rise, so it is found by halving.
local function first_within(log, span)
  local low, high = 1, log.entries + 1
  while low < high do
    local middle = math.floor((low + high) / 2)
    if stamp_of(log, middle) + span > now then high = middle else low = middle + 1 end
  end
  return low
end

-- The log with another content; it goes by itself once no window holds its newest entry any more.
local function write_log(log, keep)
  redis.call('SET', log.key, log.packed, 'PX', string.format('%.0f', stamp_of(log, log.entries) + keep - now))
end

-- How one window stands for an entry with this mark: the room in it, when its oldest entry leaves it, and how
-- long until it admits one more.
local function stands(log, mark, shared, most, span)
  local first = first_within(log, span)
  local counted, oldest, in_the_way = log.entries + 1 - first, first, log.entries + 1 - most
  if shared > 0 then
    counted, oldest, in_the_way = 0, nil, nil
    for n = log.entries, first, -1 do
      local from = (n - 1) * log.size + STAMP
      if string.sub(log.packed, from + 1, from + shared) == string.sub(mark, 1, shared) then
        counted, oldest = counted + 1, n
        if counted == most then in_the_way = n end
      end
    end
  end
  local function until_left(n) return stamp_of(log, n) + span - now end
  local reset = counted > 0 and until_left(oldest) or 0
  local wait = counted >= most and until_left(in_the_way) or 0
  return math.max(0, most - counted), reset, wait
end

-- The window that decides: the longest wait, then the least room, then the first. Windows come as groups of four
-- numbers: which log, how much of the mark must be shared, how many entries, in how many milliseconds.
local function tightest(logs, mark, windows)
  local best
  for n = 1, #windows, 4 do
    local log = logs[windows[n]]
    local room, reset, wait = stands(log, mark, windows[n + 1], windows[n + 2], windows[n + 3])
    if not best or wait > best.wait or (wait == best.wait and room < best.room) then
      best = { window = (n - 1) / 4, room = room, reset = reset, wait = wait }
    end
  end
  return best
end

-- Enters an action into all logs or into none. Answers its stamp (0 where it was refused), then how the window
-- that decides stands. Entries are kept for as long as they matter to anybody: it may be longer than the windows
-- asked about here.
local function charge(logs, mark, windows, keep)
  local best = tightest(logs, mark, windows)
  local stamp = 0
  if best.wait <= 0 then
    stamp = now
    for _, log in ipairs(logs) do
      if log.entries > 0 then stamp = math.max(stamp, stamp_of(log, log.entries) + 1) end
    end
    for _, log in ipairs(logs) do
      local kept = string.sub(log.packed, (first_within(log, keep) - 1) * log.size + 1)
      log.packed = kept .. struct.pack('>I6', stamp) .. mark
      log.entries = #log.packed / log.size
      write_log(log, keep)
    end
    best = tightest(logs, mark, windows)
  end
  return { stamp, best.window, best.room, best.reset, best.wait }
end

-- Takes an entry out, if it is still there; the log lives on as long as it would have.
local function give_back(key, marks, stamp)
  local log = read_log(key, marks)
  local n = log.entries
  while n > 0 and stamp_of(log, n) > stamp do n = n - 1 end
  if n == 0 or stamp_of(log, n) ~= stamp then return end
  local rest = string.sub(log.packed, 1, (n - 1) * log.size) .. string.sub(log.packed, n * log.size + 1)
  if rest == '' then redis.call('DEL', key) else redis.call('SET', key, rest, 'KEEPTTL') end
end

-- The arguments from `first` on, as numbers.
local function numbers(first, last)
  local found = {}
  for n = first, last do found[#found + 1] = tonumber(ARGV[n]) end
  return found
end
