-- The Lua side of the interpreter. Called once with (raw, checks): functions and tables of the host.
-- What scripts may reach is collected in `real`; they see it through a proxy that cannot be written to.
local host, real = ...
local error, type, rawset, setmetatable, getmetatable, xpcall, pairs = error, type, rawset, setmetatable, getmetatable, xpcall, pairs

local READONLY = "Attempt to modify a readonly table"
local proxies = setmetatable({}, { __mode = "k" })

local function refuse()
  error(READONLY, 2)
end

-- An empty table that shows `content` and refuses writes.
local function protect(content)
  local proxy = {}
  setmetatable(proxy, { __index = content, __newindex = refuse, __metatable = false })
  proxies[proxy] = content
  return proxy
end

for name, value in pairs(real) do
  if type(value) == "table" and name ~= "_G" then
    real[name] = protect(value)
  end
end

function real.rawset(target, key, value)
  if proxies[target] then
    error(READONLY, 2)
  end
  return rawset(target, key, value)
end

function real.setmetatable(target, meta)
  if proxies[target] then
    error(READONLY, 2)
  end
  return setmetatable(target, meta)
end

local shown = protect({ __index = {} })
function real.getmetatable(target)
  if proxies[target] or type(target) == "string" then
    return shown
  end
  return getmetatable(target)
end

local next, ipairs = next, ipairs
function real.next(target, key)
  return next(proxies[target] or target, key)
end
function real.pairs(target)
  return pairs(proxies[target] or target)
end
function real.ipairs(target)
  return ipairs(proxies[target] or target)
end

-- redis.call raises the error that redis.pcall returns.
local function finish(ok, value)
  if ok then
    return value
  end
  error(value, 0)
end
function host.api.call(...)
  return finish(host.call(...))
end
function host.api.pcall(...)
  local _, value = host.call(...)
  return value
end
real.redis = protect(host.api)
real.server = real.redis

setmetatable(real, {
  __index = function(_, name)
    error("Script attempted to access nonexistent global variable '" .. host.text(name) .. "'", 2)
  end,
})
local globals = protect(real)
real._G = globals

local function run(script, handler)
  return xpcall(script, handler)
end
local function run_function(callback, handler, keys, args)
  return xpcall(function()
    return callback(keys, args)
  end, handler)
end
return globals, run, run_function
