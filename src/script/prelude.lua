-- The Lua side of an interpreter. Called once with the host's functions and the tables that scripts may reach:
-- `real` (the globals), `redis` and `loading` (the table `redis` of scripts that run, and of libraries that are loaded).
-- Scripts see them through proxies that cannot be written to; what our own functions must not reach goes by its proxy only.
local host, real, redis, loading = ...
local error, type, rawset, rawget, setmetatable, getmetatable = error, type, rawset, rawget, setmetatable, getmetatable
local next, pairs, ipairs, xpcall, loadstring, byte, concat = next, pairs, ipairs, xpcall, loadstring, string.byte, table.concat

local READONLY = "Attempt to modify a readonly table"
local proxies = setmetatable({}, { __mode = "k" })

-- An empty table that shows `content` and refuses writes.
local function protect(content)
  local proxy = {}
  local meta = { __index = content, __newindex = host.refuse, __metatable = false }
  setmetatable(proxy, meta)
  proxies[proxy] = content
  return proxy, meta
end

real.table.insert = host.insert
for name, value in pairs(real) do
  if type(value) == "table" then
    real[name] = protect(value)
  end
end

function real.rawset(target, key, value)
  if proxies[target] then
    error(READONLY, 0)
  end
  return rawset(target, key, value)
end
function real.rawget(target, key)
  return rawget(proxies[target] or target, key)
end

function real.setmetatable(target, meta)
  if proxies[target] then
    error(READONLY, 0)
  end
  return setmetatable(target, meta)
end

-- Of what is protected, and of strings, scripts see a metatable that tells nothing.
local shown = protect({ __index = {} })
function real.getmetatable(target)
  if proxies[target] or type(target) == "string" then
    return shown
  end
  return getmetatable(target)
end

-- The iterators hand out the proxy again, never what it stands for.
local function visible_next(target, key)
  return next(proxies[target] or target, key)
end
real.next = visible_next
function real.pairs(target)
  if proxies[target] then
    return visible_next, target, nil
  end
  return pairs(target)
end
function real.ipairs(target)
  if proxies[target] then
    return function(_, index)
      local value = rawget(proxies[target], index + 1)
      if value ~= nil then
        return index + 1, value
      end
    end, target, 0
  end
  return ipairs(target)
end

-- Precompiled code could do anything: only texts are loaded.
local function load_text(text, name)
  if byte(text, 1) == 27 then
    return nil, "attempt to load binary code"
  end
  if #text > host.chunk_most then
    return nil, host.too_long
  end
  return loadstring(text, name)
end
function real.loadstring(text, name)
  if type(text) ~= "string" and type(text) ~= "number" then
    error("bad argument #1 to 'loadstring' (string expected, got " .. (text == nil and "no value" or type(text)) .. ")", 2)
  end
  text = text .. ""
  return load_text(text, name or text)
end
function real.load(reader, name)
  if type(reader) ~= "function" then
    error("bad argument #1 to 'load' (function expected, got " .. (reader == nil and "no value" or type(reader)) .. ")", 2)
  end
  local parts = {}
  while true do
    local part = reader()
    if part == nil or part == "" then
      break
    end
    if type(part) ~= "string" then
      return nil, "reader function must return a string"
    end
    parts[#parts + 1] = part
  end
  return load_text(concat(parts), name or "=(load)")
end

real.redis = protect(redis)

-- A missing global is an error; while a library is loaded it sees nothing but its `redis`.
setmetatable(real, { __index = host.absent })
local while_loading = setmetatable({}, { __index = host.absent })
setmetatable(loading, { __index = host.absent })
while_loading.redis = protect(loading)

local globals, meta = protect(real)
real._G = globals

local function switch(is_loading)
  meta.__index = is_loading and while_loading or real
end
return globals, switch
