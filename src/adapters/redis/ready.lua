-- KEYS: one of its own. Writes, so that it fails wherever a request would.
redis.call('SET', KEYS[1], now, 'PX', 1000)
return 1
