"""What Redis does in one step each: the Lua of `RedisStore`, for Redis 5 and later.

A port of a scope is one hash, since a wildcard collides with every address of its port: its fields
are tokens, a value is `EXPIRES CREATED {claim}` with times in milliseconds. Whether a lease is in
the way is not decided here: the caller names the leases that it has seen on the port, and which of
them are replaced; a script that finds any other one changes nothing. Time is Redis's own.

A script reads everything before it writes anything, and its first write is one that Redis refuses
when it is out of memory or may not write: so half of it never happens (EVAL, maxmemory and ACL in
the documentation of Redis).
"""

from __future__ import annotations

_CLOCK = """
local clock = redis.call('TIME')
local now_us = clock[1] * 1000000 + clock[2]
local now = math.floor(now_us / 1000)
local function whole(number) return string.format('%.0f', number) end
local function lasts(key, ttl)
  if redis.call('PTTL', key) < ttl then redis.call('PEXPIRE', key, whole(ttl)) end
end
local function indexed(key, member, expires)
  local old = redis.call('ZSCORE', key, member)
  if not old or tonumber(old) < expires then redis.call('ZADD', key, whole(expires), member) end
end
"""

TOUCH = (
    _CLOCK
    + """
-- KEYS: the index of scopes.  ARGV: a scope, milliseconds.  Keeps the scope in the index that long.
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', whole(now))
indexed(KEYS[1], ARGV[1], now + tonumber(ARGV[2]))
return whole(now_us)
"""
)

GRANT = (
    _CLOCK
    + """
-- KEYS, for each claim: its port's leases, its scope's index of ports, its scope's last token.
-- ARGV: microseconds, a count, that many of '+KEY TOKEN' (may stay) and '-KEY TOKEN' (is replaced),
-- then for each claim: member of the index, milliseconds, text.
-- Returns late NOW; seen {KEY, TOKEN, VALUE, ...}; or granted {TOKEN, CREATED, EXPIRES, ...}.
if now_us > tonumber(ARGV[1]) then return {'late', whole(now_us)} end
local verdicts, first = {}, 3 + ARGV[2]
for i = 3, first - 1 do verdicts[ARGV[i]:sub(2)] = ARGV[i]:sub(1, 1) end
local live, drop, unseen = {}, {}, false
for i = 1, #KEYS, 3 do
  local found = redis.call('HGETALL', KEYS[i])
  for j = 1, #found, 2 do
    local expires = found[j + 1]:match('^(%d+) %d+ ')
    if not expires then return redis.error_reply('ERR ' .. KEYS[i] .. ' is no list of leases') end
    local verdict = verdicts[KEYS[i] .. ' ' .. found[j]]
    if verdict == '-' or tonumber(expires) <= now then
      drop[#drop + 1] = {KEYS[i], found[j]}
    else
      unseen = unseen or verdict ~= '+'
      live[#live + 1] = KEYS[i]
      live[#live + 1] = found[j]
      live[#live + 1] = found[j + 1]
    end
  end
  redis.call('ZCARD', KEYS[i + 1])
  redis.call('GET', KEYS[i + 2])
end
if unseen then return {'seen', live} end
local tokens = {}
for i = 1, #KEYS, 3 do
  local last = tonumber(redis.call('GET', KEYS[i + 2]) or '0')
  local ttl = tonumber(ARGV[first + i])
  tokens[i] = whole(math.max(last + 1, now_us))
  redis.call('SET', KEYS[i + 2], tokens[i], 'PX', 2592000000)
  redis.call('ZREMRANGEBYSCORE', KEYS[i + 1], '-inf', whole(now))
  indexed(KEYS[i + 1], ARGV[first + i - 1], now + ttl)
  lasts(KEYS[i + 1], ttl)
end
for _, each in ipairs(drop) do redis.call('HDEL', each[1], each[2]) end
local granted = {}
for i = 1, #KEYS, 3 do
  local ttl = tonumber(ARGV[first + i])
  local expires = whole(now + ttl)
  redis.call('HSET', KEYS[i], tokens[i], expires .. ' ' .. whole(now) .. ' ' .. ARGV[first + i + 1])
  lasts(KEYS[i], ttl)
  granted[#granted + 1] = tokens[i]
  granted[#granted + 1] = whole(now)
  granted[#granted + 1] = expires
end
return {'granted', granted}
"""
)
"""Tokens are at least the microseconds of the clock: they grow even after Redis forgot the last."""

RENEW = (
    _CLOCK
    + """
-- KEYS: the port's leases, its scope's index.  ARGV: token, milliseconds, member of the index.
-- Returns the lease's new value, or '' where it is no more.
local value = redis.call('HGET', KEYS[1], ARGV[1])
local expires, rest = (value or ''):match('^(%d+)( %d+ .*)$')
if not expires or tonumber(expires) <= now then return '' end
local ttl = tonumber(ARGV[2])
value = whole(now + ttl) .. rest
redis.call('ZCARD', KEYS[2])
redis.call('HSET', KEYS[1], ARGV[1], value)
lasts(KEYS[1], ttl)
indexed(KEYS[2], ARGV[3], now + ttl)
lasts(KEYS[2], ttl)
return value
"""
)

END = (
    _CLOCK
    + """
-- KEYS, for each lease: its port's leases, its scope's index.  ARGV, for each: token, member.
-- Returns for each: 1 it was alive and is ended, 2 it had expired and is forgotten, 0 no more.
local results = {}
for i = 1, #KEYS, 2 do
  local expires = (redis.call('HGET', KEYS[i], ARGV[i]) or ''):match('^(%d+) ')
  if expires then
    redis.call('HDEL', KEYS[i], ARGV[i])
    if redis.call('EXISTS', KEYS[i]) == 0 then redis.call('ZREM', KEYS[i + 1], ARGV[i + 1]) end
  end
  results[#results + 1] = not expires and 0 or tonumber(expires) <= now and 2 or 1
end
return results
"""
)

READ = (
    _CLOCK
    + """
-- KEYS: the leases of ports.  Returns Redis's time in milliseconds, {KEY, TOKEN, VALUE, ...}.
local all = {}
for _, key in ipairs(KEYS) do
  local found = redis.call('HGETALL', key)
  for j = 1, #found, 2 do
    all[#all + 1] = key
    all[#all + 1] = found[j]
    all[#all + 1] = found[j + 1]
  end
end
return {whole(now), all}
"""
)

REMEMBER = """
-- KEYS: the last ports of a project's services.  ARGV: milliseconds, then service and port of each.
for i = 2, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 'OK'
"""
