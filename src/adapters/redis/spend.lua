-- KEYS: verification, and where its site is charged for a guess that site's log. ARGV: remembrance, guesses, then
-- for the log how long entries are kept, the number of windows and the windows. Answers {'limited', …} with what
-- `charge` says of a refusal, {'spent', entry, spent, what it is about, salt, hash}, the status that forbids it, or nil.
local remembrance, guesses, entry = tonumber(ARGV[1]), tonumber(ARGV[2]), 0
if KEYS[2] then
  local charged = charge({ read_log(KEYS[2], 0) }, '', numbers(5, 4 + 4 * ARGV[4]), tonumber(ARGV[3]))
  entry = charged[1]
  if entry == 0 then return { 'limited', unpack(charged) } end
end
local v = load(remembrance)
if not v then return false end
local was = status(v, guesses)
if was ~= 'pending' then return was end
v.spent = v.spent + 1
save(v, remembrance)
return { 'spent', entry, v.spent, v.sealed, v.salt, v.rest }
