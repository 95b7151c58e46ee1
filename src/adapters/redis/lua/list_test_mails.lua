-- Lists the captured emails of a sandbox key, newest first.
-- KEYS: test mails. ARGV: retention (ms). Returns for each email its time and the encrypted email.
local emails = {}
local packed = redis.call('GET', KEYS[1])
if packed then
  each(packed, tonumber(ARGV[1]), function(received_at, _, content, last)
    emails[#emails + 1] = received_at
    emails[#emails + 1] = string.sub(packed, content, last)
  end)
end
return emails
