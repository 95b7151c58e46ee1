-- Calls every command that the other scripts call, so that it fails if a request would. `SET` comes
-- first: after another write, Redis would not refuse it for lack of memory.
-- KEYS: a key of its own. Returns 1.
redis.call('SET', KEYS[1], now, 'PX', 1000)
redis.call('APPEND', KEYS[1], '')
redis.call('PEXPIRE', KEYS[1], 1000)
redis.call('GET', KEYS[1])
redis.call('GETRANGE', KEYS[1], 0, 0)
redis.call('STRLEN', KEYS[1])
redis.call('DEL', KEYS[1])
return 1
