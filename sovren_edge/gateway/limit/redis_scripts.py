"""Owns what Redis does at once: Lua scripts over the grants of subscribers, and where they are kept.

`state` is a hash: `run`, the run id of the server that was seeded, so that with another one, or without, Redis is cold;
`epoch`, when that was; `seen`, the greatest time there was; and while it is cold, since when. A subscriber's `log` is a
sorted set of grant ids by time, its `inflight` one of ids by when they are given up. `guard` names who seeds.

Times are microseconds of Redis's TIME, and `now` is never less than it ever was: when that clock goes back, time stands
still until it has caught up. Each script is called with the run id that the connection was made to, and the latest TIME
at which it may act: whoever called will have gone. Each answers a word, TIME, and what the word needs.

What has left the window is kept for `lag` more. So a grant that was lost with an older epoch, and is asked for again
within that time, is judged at its own time: no window, also none of the past, gets more than the limit.
"""

from dataclasses import dataclass
from hashlib import sha1

# In braces, so that all have one place wherever keys are spread.
PREFIX = "{sovren-edge}:"
STATE, GUARD = f"{PREFIX}state", f"{PREFIX}guard"


def log_of(subscriber: str) -> str:
    """Return the key of a subscriber's grants."""
    return f"{PREFIX}log:{subscriber}"


def inflight_of(subscriber: str) -> str:
    """Return the key of a subscriber's requests in flight."""
    return f"{PREFIX}inflight:{subscriber}"


@dataclass(frozen=True, slots=True)
class Script:
    """Lua, and the name by which Redis knows it."""

    lua: str

    @property
    def sha(self) -> str:
        """Return that name."""
        return sha1(self.lua.encode(), usedforsecurity=False).hexdigest()


_TIME = """
local run, latest = ARGV[1], tonumber(ARGV[2])
local time = redis.call('TIME')
local TIME = time[1] * 1000000 + time[2]
local function text(number) return string.format('%.0f', number) end
"""

GRANT = Script(
    _TIME
    + """
-- Grant an id, now or at a time that it had; without an id, only look.
local state, log, inflight = KEYS[1], KEYS[2], KEYS[3]
local id, at, limit, most_inflight = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local window, lag, life = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])

if TIME > latest then return {'late', TIME} end
local kept = redis.call('HMGET', state, 'run', 'seen')
if kept[1] ~= run then return {'cold', TIME} end
local now = math.max(TIME, tonumber(kept[2]))
redis.call('HSET', state, 'seen', text(now))

local function count(since) return redis.call('ZCOUNT', log, '(' .. text(since), '+inf') end

local function answer(word, at)
    local used = count(now - window)
    if used == 0 then return {word, TIME, at, 0, now, now} end
    local counted = '(' .. text(now - window)
    local next = redis.call('ZRANGEBYSCORE', log, counted, '+inf', 'WITHSCORES', 'LIMIT', math.max(used - limit, 0), 1)
    local last = redis.call('ZRANGE', log, -1, -1, 'WITHSCORES')
    return {word, TIME, at, used, next[2] + window, last[2] + window}
end

local function fly()
    redis.call('ZADD', inflight, text(TIME + life), id)
    redis.call('PEXPIRE', inflight, text(math.ceil(life / 1000)))
end

if id == '' then return answer('seen', 0) end
local held = redis.call('ZSCORE', log, id)
if held then
    fly()
    return answer('granted', tonumber(held))
end
local again = at > 0
if not again or at > now then at = now end
if at < now - lag then return {'lost', TIME} end
if count(at - window) >= limit then return answer('exceeded', 0) end
redis.call('ZREMRANGEBYSCORE', inflight, '-inf', text(TIME))
if not again and redis.call('ZCARD', inflight) >= most_inflight then return answer('crowded', 0) end
redis.call('ZREMRANGEBYSCORE', log, '-inf', text(now - window - lag))
redis.call('ZADD', log, text(at), id)
redis.call('PEXPIREAT', log, text(math.ceil((now + window + lag) / 1000)))
fly()
return answer('granted', at)
"""
)

END = Script(
    _TIME
    + """
-- End a request in flight; what sent nothing gives its grant back.
local log, inflight, id, refund = KEYS[1], KEYS[2], ARGV[3], ARGV[4]
redis.call('ZREM', inflight, id)
if refund == '1' then redis.call('ZREM', log, id) end
return {'ended', TIME}
"""
)

BEGIN = Script(
    _TIME
    + """
-- Take or keep the guard over a Redis that is cold, and tell since when it has been that, and a name for it.
local state, guard, token, hold_ms, name = KEYS[1], KEYS[2], ARGV[3], ARGV[4], ARGV[5]
if TIME > latest then return {'late', TIME} end
if redis.call('HGET', state, 'run') == run then return {'warm', TIME} end
if redis.call('HGET', state, 'cold_run') ~= run then
    redis.call('HSET', state, 'cold_run', run, 'cold_at', text(TIME), 'cold_name', name)
end
local holder = redis.call('GET', guard)
if holder and holder ~= token then return {'guarded', TIME} end
redis.call('SET', guard, token, 'PX', hold_ms)
return {'begun', TIME, tonumber(redis.call('HGET', state, 'cold_at')), redis.call('HGET', state, 'cold_name')}
"""
)

SEED = Script(
    _TIME
    + """
-- Add grants that were made, each a log, an id and a time; what is there already stays.
local state, guard, token, hold_ms, kept = KEYS[1], KEYS[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
if redis.call('GET', guard) ~= token or redis.call('HGET', state, 'cold_run') ~= run then return {'lost', TIME} end
redis.call('PEXPIRE', guard, hold_ms)
local seen = math.max(TIME, tonumber(redis.call('HGET', state, 'seen') or 0))
for n = 3, #KEYS do
    local id, at = ARGV[2 * n], tonumber(ARGV[2 * n + 1])
    seen = math.max(seen, at)
    if at > TIME - kept then
        redis.call('ZADD', KEYS[n], 'NX', text(at), id)
        redis.call('PEXPIREAT', KEYS[n], text(math.ceil((seen + kept) / 1000)))
    end
end
redis.call('HSET', state, 'seen', text(seen))
return {'seeded', TIME}
"""
)

FINISH = Script(
    _TIME
    + """
-- Begin an epoch: all that counts is known.
local state, guard, token = KEYS[1], KEYS[2], ARGV[3]
if redis.call('GET', guard) ~= token or redis.call('HGET', state, 'cold_run') ~= run then return {'lost', TIME} end
local seen = math.max(TIME, tonumber(redis.call('HGET', state, 'seen') or 0))
redis.call('HSET', state, 'run', run, 'epoch', text(TIME), 'seen', text(seen))
redis.call('HDEL', state, 'cold_run', 'cold_at', 'cold_name')
redis.call('DEL', guard)
return {'finished', TIME}
"""
)

RELEASE = Script(
    _TIME
    + """
-- Let another one seed.
if redis.call('GET', KEYS[1]) == ARGV[3] then redis.call('DEL', KEYS[1]) end
return {'released', TIME}
"""
)

ALL = (GRANT, END, BEGIN, SEED, FINISH, RELEASE)
