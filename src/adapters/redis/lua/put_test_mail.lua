-- Adds a captured email to those of a sandbox key.
-- KEYS: test mails. ARGV: retention (ms), max emails, encrypted email. Returns 1.
local retention, max_emails = tonumber(ARGV[1]), tonumber(ARGV[2])
local emails = { string.char(16 * VERSION), struct.pack(HEAD, now, #ARGV[3]) .. ARGV[3] }
local packed = redis.call('GET', KEYS[1])
if packed then
  each(packed, retention, function(_, first, _, last)
    if #emails <= max_emails then emails[#emails + 1] = string.sub(packed, first, last) end
  end)
end
redis.call('SET', KEYS[1], table.concat(emails), 'PX', retention)
return 1
