-- Wireshark dissector for ipOS: frames between servers (Port B) and Synch messages.
--
--   wireshark -X lua_script:wireshark/ipos.lua farm.pcap
--   tshark -X lua_script:wireshark/ipos.lua -r farm.pcap -Y ipos_b
--
-- or copy this file to the folder that Help > About > Folders names "Personal Lua Plugins".
--
-- EtherType 0x0007 is below 0x0600, so that Wireshark takes it for a length (IEEE 802.3): frames are recognised by their
-- header's checksum, before Ethernet looks at its type. 0x88b5 is registered besides; another one of 0x0600 or above is taken for
-- ipOS by "Decode As". Field names are those of `dissect`,
-- behind `ipos_b` and `ipos_synch`: Wireshark itself has an `ipos`, which is something else.

local ipos = Proto("ipos_b", "ipOS, Port B")
local synch = Proto("ipos_synch", "ipOS, Synch")

local HEADER, CONTROL_BLOCK, TRAILER, TAGGED = 16, 140, 20, 36
local VLAN_TAGS = { [0x8100] = true, [0x88a8] = true }
local TYPES = {
  [0x01] = "connection endpoint", [0x02] = "packet", [0x03] = "acknowledgement",
  [0x10] = "RELEASE", [0x11] = "REFUSE", [0x12] = "MOVE", [0x13] = "MOVED",
}
local PROTOCOLS = { [1] = "tcp", [2] = "udp" }
local STATES = {
  "SYN-RECEIVED", "ESTABLISHED", "FIN-WAIT-1", "FIN-WAIT-2", "CLOSE-WAIT", "CLOSING", "LAST-ACK", "TIME-WAIT",
}
local TIMERS = { [0] = "none", "retransmission", "persist", "keep-alive", "2MSL" }

local function field(make, of, name, text, ...)
  return make(of .. "." .. name, text, ...)
end

local e = {
  destination = field(ProtoField.ether, "ipos_b", "ethernet.destination", "Destination"),
  source = field(ProtoField.ether, "ipos_b", "ethernet.source", "Source"),
  type = field(ProtoField.uint16, "ipos_b", "ethernet.type", "Type", base.HEX),
}
-- The ipOS header.
local h = {
  client_address = field(ProtoField.ipv4, "ipos_b", "client_address", "Client address"),
  client_port = field(ProtoField.uint16, "ipos_b", "client_port", "Client port"),
  destination = field(ProtoField.ipv4, "ipos_b", "destination", "Destination (Port B)"),
  port = field(ProtoField.uint16, "ipos_b", "port", "Port of the application"),
  type = field(ProtoField.uint8, "ipos_b", "type", "Type", base.HEX, TYPES),
  protocol = field(ProtoField.uint8, "ipos_b", "protocol", "Protocol", base.DEC, PROTOCOLS),
  checksum = field(ProtoField.uint16, "ipos_b", "checksum", "Checksum", base.HEX),
}
-- Connection information, and the server that MOVE and MOVED name.
local c = {
  first_server_address = field(ProtoField.ipv4, "ipos_b", "first_server_address", "First server's address"),
  first_server_port = field(ProtoField.uint16, "ipos_b", "first_server_port", "First server's port"),
  port_b_address = field(ProtoField.ipv4, "ipos_b", "named_server.port_b_address", "Named server's Port B"),
  named_port = field(ProtoField.uint16, "ipos_b", "named_server.port", "Named server's application port"),
}

-- The control block: name, bytes, unit or how it is shown. What has no name is zero.
local BLOCK = {
  { "version", 1 }, { "state", 1, STATES }, { "flags", 2, "hex" }, { "epoch", 4 }, { "snd_wscale", 1, "bits" },
  { "rcv_wscale", 1, "bits" }, { "dupacks", 1 }, { "rxtshift", 1 }, { "snd_mss", 2, "bytes" }, { "rcv_mss", 2, "bytes" },
  { "iss", 4 }, { "snd_una", 4 }, { "snd_nxt", 4 }, { "snd_max", 4 }, { "snd_wnd", 4, "bytes" }, { "snd_wl1", 4 },
  { "snd_wl2", 4 }, { "max_sndwnd", 4, "bytes" }, { "cwnd", 4, "bytes" }, { "ssthresh", 4, "bytes" }, { "recover", 4 },
  { "irs", 4 }, { "rcv_nxt", 4 }, { "rcv_wnd", 4, "bytes" }, { "rcv_adv", 4 }, { "last_ack_sent", 4 },
  { "srtt", 4, "µs" }, { "rttvar", 4, "µs" }, { "rto", 4, "µs" }, { "rtt_min", 4, "µs" }, { "ts_recent", 4 },
  { "ts_recent_age", 4, "ms" }, { "tsval", 4, "ms" }, { "timer", 1, TIMERS }, { nil, 1 }, { "timer_left", 2, "ms" },
  { "idle", 4, "ms" }, { "rcv_up", 4 }, { "oob_flags", 1, "hex" }, { "oob_byte", 1, "hex" },
}
local TRAILER_FIELDS = {
  { "version", 1 }, { "length", 1, "bytes" }, { "flags", 2, "hex" }, { "epoch", 4 }, { "rcv_nxt", 4 },
  { "incarnation", 4 }, { "number", 4 }, { "tag", 16, "raw" },
}
local FLAGS = {
  control_block = {
    { 0x01, "window_scale" }, { 0x02, "sack_permitted" }, { 0x04, "timestamps" }, { 0x08, "ecn" }, { 0x10, "fin_received" },
    { 0x20, "fin_sent" }, { 0x40, "delayed_ack" }, { 0x80, "bound" },
  },
  trailer = {
    { 0x0001, "rcv_nxt" }, { 0x0002, "acknowledged" }, { 0x0100, "full" }, { 0x0200, "no_application" },
    { 0x0400, "invalid" }, { 0x0800, "draining" },
  },
}

local all = { ipos_b = {}, ipos_synch = {} }
for _, fields in ipairs({ e, h, c }) do
  for _, one in pairs(fields) do table.insert(all.ipos_b, one) end
end

local UINT = { ProtoField.uint8, ProtoField.uint16, [4] = ProtoField.uint32, [8] = ProtoField.uint64 }

-- Makes the fields of a layer, and of its flags.
local function declare(proto, layer, rows)
  for _, row in ipairs(rows) do
    local name, size, shown = row[1], row[2], row[3]
    if name then
      local full = proto .. "." .. layer .. "." .. name
      if shown == "raw" then row.field = ProtoField.bytes(full, name)
      elseif shown == "ipv4" then row.field = ProtoField.ipv4(full, name)
      elseif shown == "ether" then row.field = ProtoField.ether(full, name)
      elseif shown == "text" then row.field = ProtoField.string(full, name, base.UNICODE)
      elseif shown == "hex" then row.field = UINT[size](full, name, base.HEX)
      elseif type(shown) == "table" then row.field = UINT[size](full, name, base.DEC, shown)
      elseif shown then row.field = UINT[size](full, name .. " (" .. shown .. ")", base.DEC)
      else row.field = UINT[size](full, name, base.DEC) end
      table.insert(all[proto], row.field)
    end
  end
  for _, flag in ipairs(FLAGS[layer] or {}) do
    local name = proto .. "." .. layer .. ".flags." .. flag[2]
    flag.field = ProtoField.bool(name, flag[2], 16, nil, flag[1])
    table.insert(all[proto], flag.field)
  end
end
declare("ipos_b", "control_block", BLOCK)
declare("ipos_b", "trailer", TRAILER_FIELDS)
ipos.fields = all.ipos_b

local malformed = ProtoExpert.new("ipos_b.malformed", "Malformed", expert.group.MALFORMED, expert.severity.ERROR)
local checksum_bad = ProtoExpert.new("ipos_b.checksum.bad", "Wrong header checksum", expert.group.CHECKSUM, expert.severity.ERROR)
ipos.experts = { malformed, checksum_bad }

-- RFC 1071: the eight words of a right header sum to 0xffff.
local function verifies(tvb)
  local sum = 0
  for at = 0, HEADER - 2, 2 do sum = sum + tvb(at, 2):uint() end
  -- Wireshark has Lua 5.2 or 5.4: no operators on bits.
  while sum > 0xffff do sum = sum % 0x10000 + math.floor(sum / 0x10000) end
  return sum == 0xffff
end

-- Adds the rows of a layer from `at` on, as far as `size` bytes go.
local function add_rows(tree, tvb, at, size, layer, rows)
  local stop = at + size
  for _, row in ipairs(rows) do
    if at + row[2] > stop then return end
    if row[1] then
      local item = tree:add(row.field, tvb(at, row[2]))
      if row[1] == "flags" then
        for _, flag in ipairs(FLAGS[layer] or {}) do item:add(flag.field, tvb(at, 2)) end
      end
    end
    at = at + row[2]
  end
end

-- A trailer at `at`, if there is one: version 0 is padding.
local function add_trailer(tree, tvb, at)
  if tvb:len() - at < TRAILER or tvb(at, 1):uint() == 0 then return end
  local size = tvb(at + 1, 1):uint()
  if tvb(at, 1):uint() ~= 1 or (size ~= TRAILER and size ~= TAGGED) or tvb:len() - at < size then
    tree:add_proto_expert_info(malformed, "the trailer's version or length")
    return
  end
  local subtree = tree:add(ipos, tvb(at, size), "Trailer")
  add_rows(subtree, tvb, at, size, "trailer", TRAILER_FIELDS)
end

-- What follows the header: its length, or nothing where it is not whole.
local function add_connection(tree, tvb, is_tcp)
  local size = is_tcp and 6 + CONTROL_BLOCK or 6
  if tvb:len() < HEADER + size then return nil end
  local information = tree:add(ipos, tvb(HEADER, size), "Connection information")
  information:add(c.first_server_address, tvb(HEADER, 4))
  information:add(c.first_server_port, tvb(HEADER + 4, 2))
  if is_tcp then
    local block = information:add(ipos, tvb(HEADER + 6, CONTROL_BLOCK), "Control block")
    add_rows(block, tvb, HEADER + 6, CONTROL_BLOCK, "control_block", BLOCK)
  end
  return size
end

function ipos.dissector(tvb, pinfo, root)
  if tvb:len() < HEADER then return 0 end
  local kind, protocol = tvb(12, 1):uint(), tvb(13, 1):uint()
  local name = TYPES[kind] or string.format("type 0x%02x", kind)
  local tree = root:add(ipos, tvb(), "ipOS, " .. name)
  tree:add(h.client_address, tvb(0, 4))
  tree:add(h.client_port, tvb(4, 2))
  tree:add(h.destination, tvb(6, 4))
  tree:add(h.port, tvb(10, 2))
  tree:add(h.type, tvb(12, 1))
  tree:add(h.protocol, tvb(13, 1))
  local checksum = tree:add(h.checksum, tvb(14, 2))
  if not verifies(tvb) then checksum:add_proto_expert_info(checksum_bad) end
  local client = string.format("%s:%d", tostring(tvb(0, 4):ipv4()), tvb(4, 2):uint())
  local size = 0
  if kind == 0x01 then
    size = add_connection(tree, tvb, protocol == 1)
  elseif kind == 0x02 then
    -- The client's packet says itself where it ends.
    Dissector.get("ip"):call(tvb(HEADER):tvb(), pinfo, root)
  elseif kind == 0x12 or kind == 0x13 then
    size = tvb:len() >= HEADER + 6 and 6 or nil
    if size then
      local named = tree:add(ipos, tvb(HEADER, 6), "Named server")
      named:add(c.port_b_address, tvb(HEADER, 4))
      named:add(c.named_port, tvb(HEADER + 4, 2))
    end
  end
  if not size then
    tree:add_proto_expert_info(malformed, "too short for its type")
  elseif kind ~= 0x02 then
    add_trailer(tree, tvb, HEADER + size)
  end
  pinfo.cols.protocol = "ipOS"
  if kind == 0x02 then
    pinfo.cols.info:prepend("[to " .. tostring(tvb(6, 4):ipv4()) .. "] ")
  else
    pinfo.cols.info = string.format("0x%02x %s, %s client %s", kind, name, PROTOCOLS[protocol] or "?", client)
  end
  return tvb:len()
end

-- Synch messages.

local KINDS = { "high", "medium", "low", "leave" }
local SUBJECTS = { "process", "object" }
local ACTIONS = { "set", "removed" }
local SYNCH_HEADER = {
  { "magic", 4, "text" }, { "version", 1 }, { "kind", 1, KINDS }, { "flags", 2, "hex" }, { "incarnation", 4 },
  { "sequence_number", 4 }, { "part", 1 }, { "parts", 1 }, { "records_length", 2, "bytes" },
}
-- By type: the name, the fields of fixed length, and those behind them whose lengths these say.
local RECORDS = {
  { "STATE", { { "connections", 4 }, { "cpu", 2, "1/10000" }, { nil, 2 }, { "free_memory", 8, "bytes" }, { "free_bandwidth", 8, "bit/s" } } },
  { "IDENTITY", { { "port_b_address", 4, "ipv4" }, { "port_b_hardware_address", 6, "ether" }, { "port_a_count", 1 }, { "name_length", 1 } },
    { { "port_a_addresses", "port_a_count", "ipv4", 4 }, { "name", "name_length", "text" } } },
  { "LISTEN", { { "address", 4, "ipv4" }, { "port", 2 }, { "protocol", 1, PROTOCOLS }, { "service_length", 1 } },
    { { "service", "service_length", "text" } } },
  { "PROCESS", { { "process_id", 4 }, { "address", 4, "ipv4" }, { "port", 2 }, { nil, 1 }, { "name_length", 1 } },
    { { "name", "name_length", "text" } } },
  { "OBJECT", { { "object_id", 8 }, { "address", 4, "ipv4" }, { "shadow_object_id", 8 }, { "shadow_address", 4, "ipv4" } } },
  { "COOKIE", { { "action", 1, ACTIONS }, { "session_length", 1 }, { "server_length", 1 }, { nil, 1 }, { "lifetime", 4, "ms" } },
    { { "session_id", "session_length", "raw" }, { "server", "server_length", "text" } } },
  { "PERFORMANCE", { { "subject", 1, SUBJECTS }, { nil, 1 }, { "cpu", 2, "1/10000" }, { "id", 8 }, { "memory", 8, "bytes" } } },
  { "STORED", {}, { { "package", nil, "text" } } },
}
FLAGS.header = { { 0x0001, "draining" }, { 0x8000, "tagged" } }
declare("ipos_synch", "header", SYNCH_HEADER)
for _, record in ipairs(RECORDS) do
  local layer = string.lower(record[1])
  declare("ipos_synch", layer, record[2])
  for _, row in ipairs(record[3] or {}) do
    local make = { ipv4 = ProtoField.ipv4, text = ProtoField.string, raw = ProtoField.bytes }
    row.field = make[row[3]]("ipos_synch." .. layer .. "." .. row[1], row[1])
    table.insert(all.ipos_synch, row.field)
  end
end
local record_type = ProtoField.uint8("ipos_synch.record", "Record")
local tag = ProtoField.bytes("ipos_synch.tag", "Tag")
table.insert(all.ipos_synch, record_type)
table.insert(all.ipos_synch, tag)
synch.fields = all.ipos_synch
local synch_malformed = ProtoExpert.new("ipos_synch.malformed", "Malformed", expert.group.MALFORMED, expert.severity.ERROR)
synch.experts = { synch_malformed }

local SYNCH_SIZE, SYNCH_TAG = 20, 16

-- The fields of one record's value.
local function add_record(tree, tvb, record)
  local at, lengths = 0, {}
  for _, row in ipairs(record[2]) do
    if at + row[2] > tvb:len() then return false end
    if row[1] then
      tree:add(row.field, tvb(at, row[2]))
      if row[2] == 1 then lengths[row[1]] = tvb(at, 1):uint() end
    end
    at = at + row[2]
  end
  for _, row in ipairs(record[3] or {}) do
    local each = row[4]
    local size = row[2] and lengths[row[2]] * (each or 1) or tvb:len() - at
    if at + size > tvb:len() then return false end
    if each then
      for place = at, at + size - each, each do tree:add(row.field, tvb(place, each)) end
    elseif size > 0 then
      tree:add(row.field, tvb(at, size))
    end
    at = at + size
  end
  return at == tvb:len()
end

local function add_records(tree, tvb)
  local at = 0
  while at < tvb:len() do
    local size = tvb:len() - at >= 4 and tvb(at + 2, 2):uint()
    if not size or at + 4 + size > tvb:len() then
      tree:add_proto_expert_info(synch_malformed, "a record is cut")
      return
    end
    local kind = tvb(at, 1):uint()
    local record = RECORDS[kind]
    local item = tree:add(synch, tvb(at, 4 + size), record and record[1] or "unknown record")
    item:add(record_type, tvb(at, 1))
    if record and not (size > 0 and add_record(item, tvb(at + 4, size):tvb(), record)) then
      item:add_proto_expert_info(synch_malformed, "the record's length is not that of its fields")
    end
    at = at + 4 + size
  end
end

local function is_synch(tvb)
  return tvb:len() >= SYNCH_SIZE and tvb(0, 4):string() == "ipOS" and tvb(4, 1):uint() == 1
end

function synch.dissector(tvb, pinfo, root)
  if not is_synch(tvb) then return 0 end
  local kind = KINDS[tvb(5, 1):uint()] or "unknown kind"
  local tree = root:add(synch, tvb(), "ipOS Synch, " .. kind)
  add_rows(tree, tvb, 0, SYNCH_SIZE, "header", SYNCH_HEADER)
  local size = tvb(18, 2):uint()
  if SYNCH_SIZE + size > tvb:len() then
    tree:add_proto_expert_info(synch_malformed, "the records are cut")
  else
    if size > 0 then add_records(tree, tvb(SYNCH_SIZE, size):tvb()) end
    if tvb(6, 1):uint() >= 0x80 and tvb:len() >= SYNCH_SIZE + size + SYNCH_TAG then
      tree:add(tag, tvb(SYNCH_SIZE + size, SYNCH_TAG))
    end
  end
  pinfo.cols.protocol = "ipOS Synch"
  pinfo.cols.info = string.format("%s, incarnation %d, number %d", kind, tvb(8, 4):uint(), tvb(12, 4):uint())
  return tvb:len()
end

-- Where frames come from.

-- Where an Ethernet frame's type is: behind VLAN tags (IEEE 802.1Q, 802.1ad), if it has any.
local function type_at(tvb)
  local at = 12
  while at + 6 <= tvb:len() and VLAN_TAGS[tvb(at, 2):uint()] do at = at + 4 end
  return at
end

-- Wireshark gives the whole Ethernet frame. A type of 0x0600 and above is another protocol's.
ipos:register_heuristic("eth", function(tvb, pinfo, root)
  local at = type_at(tvb)
  if tvb:len() < at + 2 + HEADER or tvb(at, 2):uint() >= 0x0600 then return false end
  local rest = tvb(at + 2):tvb()
  if not (TYPES[rest(12, 1):uint()] and PROTOCOLS[rest(13, 1):uint()] and verifies(rest)) then return false end
  local tree = root:add(ipos, tvb(0, at + 2), "Ethernet, type " .. tostring(tvb(at, 2)))
  tree:add(e.destination, tvb(0, 6))
  tree:add(e.source, tvb(6, 6))
  tree:add(e.type, tvb(at, 2))
  ipos.dissector(rest, pinfo, root)
  return true
end)
DissectorTable.get("ethertype"):add(0x88b5, ipos)

-- Port 7007 is AFS's to Wireshark; at others nobody else comes first.
DissectorTable.get("udp.port"):add(7007, synch)
synch:register_heuristic("udp", function(tvb, pinfo, root)
  return is_synch(tvb) and synch.dissector(tvb, pinfo, root) > 0
end)
