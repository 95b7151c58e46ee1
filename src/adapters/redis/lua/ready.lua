-- Writes, so that it fails if a request would. KEYS: a key of its own. Returns 1.
redis.call('SET', KEYS[1], now, 'PX', 1000)
return 1
