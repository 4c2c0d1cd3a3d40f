-- RPT/1 for Wireshark and tshark: the header fields that are in the clear.
--
-- Read docs/transport-spec.md section 2. Protocol 253 is RPT. A UDP datagram is, if it is a
-- long packet whose CRC-32 is right, and so is then all of its conversation.
-- `rawproto dissector install` puts this file among Wireshark's plugins; what is sealed opens
-- with `rawproto decode --keylog`.

local LONG_HEADER, SHORT_HEADER, TAG, CRC = 24, 18, 16, 4
local INIT, RETRY, HANDSHAKE, RESET, VERSION = 0, 1, 2, 3, 4

local forms = { [0] = "short", [1] = "long" }
local types = { [0] = "init", "retry", "handshake", "reset", "version" }
local suites = {}
for number, pattern in pairs({ [0] = "xx", "ik", "xxpsk3", "ikpsk2" }) do
    suites[number * 16 + 1] = pattern .. "-aesgcm"
    suites[number * 16 + 2] = pattern .. "-chachapoly"
end
local codes = { [0] = "port", "key", "unknown", "suite", "busy" }
local verdicts = { [0] = "wrong", [1] = "right" }

local rpt = Proto("rpt", "RPT, encrypted transport")
local f = rpt.fields
f.form = ProtoField.uint8("rpt.form", "Form", base.DEC, forms, 0x80)
-- of short packets
f.key_phase = ProtoField.uint8("rpt.key_phase", "Key phase", base.DEC, nil, 0x40)
f.reserved = ProtoField.uint8("rpt.reserved", "Reserved", base.DEC, nil, 0x30)
f.ack_every = ProtoField.uint8("rpt.ack_every", "Acknowledge every")
f.packet_number = ProtoField.uint32("rpt.packet_number", "Packet number, low 32 bits")
f.sealed = ProtoField.bytes("rpt.sealed", "Sealed frames")
f.tag = ProtoField.bytes("rpt.tag", "Tag")
-- of long packets
f.packet_type = ProtoField.uint8("rpt.packet_type", "Type", base.DEC, types, 0x70)
f.suite = ProtoField.uint8("rpt.suite", "Suite", base.HEX, suites)
f.src_cid = ProtoField.uint64("rpt.src_cid", "Source connection ID", base.HEX)
f.length = ProtoField.uint16("rpt.length", "Length of the body")
f.token = ProtoField.bytes("rpt.token", "Token")
f.message = ProtoField.bytes("rpt.message", "Noise message")
f.padding = ProtoField.bytes("rpt.padding", "Padding")
f.code = ProtoField.uint8("rpt.code", "Code", base.DEC, codes)
f.versions = ProtoField.uint8("rpt.versions", "Speaks version")
f.checksum = ProtoField.uint32("rpt.checksum", "CRC-32", base.HEX)
f.checksum_valid = ProtoField.uint8("rpt.checksum_valid", "CRC-32 is", base.DEC, verdicts)
-- of both
f.version = ProtoField.uint8("rpt.version", "Version", base.DEC, nil, 0x0f)
f.dst_port = ProtoField.uint16("rpt.dst_port", "Destination port")
f.src_port = ProtoField.uint16("rpt.src_port", "Source port")
f.dst_cid = ProtoField.uint64("rpt.dst_cid", "Destination connection ID", base.HEX)

local wrong_crc = ProtoExpert.new(
    "rpt.checksum.wrong", "Wrong CRC-32", expert.group.CHECKSUM, expert.severity.ERROR)
local cut_short = ProtoExpert.new(
    "rpt.cut_short", "The packet ends too early", expert.group.MALFORMED, expert.severity.ERROR)
rpt.experts = { wrong_crc, cut_short }

-- Lua 5.2 has bit32, later ones operators, and Wireshark a library of its own.
local bits = bit32 or bit or load([[return {
    band = function(a, b) return a & b end,
    bxor = function(a, b) return a ~ b end,
    rshift = function(a, n) return a >> n end,
}]])()

local crc_table = {}
for byte = 0, 255 do
    local value = byte
    for _ = 1, 8 do
        local odd = value % 2 == 1
        value = math.floor(value / 2)
        if odd then value = bits.bxor(value, 0xedb88320) % 0x100000000 end
    end
    crc_table[byte] = value
end

local function crc32(bytes)
    local value = 0xffffffff
    for index = 0, bytes:len() - 1 do
        local low = bits.band(bits.bxor(value, bytes:get_index(index)), 0xff)
        value = bits.bxor(bits.rshift(value, 8), crc_table[low]) % 0x100000000
    end
    return bits.bxor(value, 0xffffffff) % 0x100000000
end

-- Where the CRC of a long packet stands; nil if it isn't there.
local function crc_at(buffer)
    if buffer:len() < LONG_HEADER + CRC then return nil end
    local at = LONG_HEADER + buffer(22, 2):uint()
    if at + CRC > buffer:len() then return nil end
    return at
end

local function crc_is_right(buffer, at)
    return crc32(buffer(0, at):bytes()) == buffer(at, CRC):uint()
end

local function add_part(tree, field, buffer, from, to)
    if to > from then tree:add(field, buffer(from, to - from)) end
end

-- The body of a long packet, from byte 24 up to `stop`.
local function dissect_body(kind, buffer, stop, tree)
    local at = LONG_HEADER
    if kind == INIT then
        if at + 1 > stop then return tree:add_proto_expert_info(cut_short) end
        local token_stop = at + 1 + buffer(at, 1):uint()
        if token_stop + 2 > stop then return tree:add_proto_expert_info(cut_short) end
        add_part(tree, f.token, buffer, at + 1, token_stop)
        local message_stop = token_stop + 2 + buffer(token_stop, 2):uint()
        if message_stop > stop then return tree:add_proto_expert_info(cut_short) end
        add_part(tree, f.message, buffer, token_stop + 2, message_stop)
        add_part(tree, f.padding, buffer, message_stop, stop)
    elseif kind == RETRY then
        add_part(tree, f.token, buffer, at, stop)
    elseif kind == HANDSHAKE then
        add_part(tree, f.message, buffer, at, stop)
    elseif kind == RESET then
        if at == stop then return tree:add_proto_expert_info(cut_short) end
        tree:add(f.code, buffer(at, 1))
        add_part(tree, f.token, buffer, at + 1, stop)
    elseif kind == VERSION then
        for index = at, stop - 1 do tree:add(f.versions, buffer(index, 1)) end
    end
end

local function dissect_long(buffer, tree)
    local kind = bits.band(bits.rshift(buffer(0, 1):uint(), 4), 7)
    local suite = buffer(1, 1):uint()
    tree:add(f.packet_type, buffer(0, 1))
    tree:add(f.version, buffer(0, 1))
    tree:add(f.suite, buffer(1, 1))
    tree:add(f.dst_port, buffer(2, 2))
    tree:add(f.src_port, buffer(4, 2))
    tree:add(f.dst_cid, buffer(6, 8))
    tree:add(f.src_cid, buffer(14, 8))
    tree:add(f.length, buffer(22, 2))
    local words = types[kind] or ("type " .. kind)
    if kind ~= RESET and kind ~= VERSION then
        words = words .. ", " .. (suites[suite] or string.format("suite 0x%02x", suite))
    end
    local at = crc_at(buffer)
    if at == nil then
        tree:add_proto_expert_info(cut_short)
        return words .. " [cut short]"
    end
    dissect_body(kind, buffer, at, tree)
    tree:add(f.checksum, buffer(at, CRC))
    local right = crc_is_right(buffer, at)
    tree:add(f.checksum_valid, buffer(at, CRC), right and 1 or 0):set_generated()
    if right then return words end
    tree:add_proto_expert_info(wrong_crc)
    return words .. " [wrong CRC-32]"
end

local function dissect_short(buffer, tree)
    tree:add(f.key_phase, buffer(0, 1))
    tree:add(f.reserved, buffer(0, 1))
    tree:add(f.version, buffer(0, 1))
    tree:add(f.ack_every, buffer(1, 1))
    tree:add(f.dst_port, buffer(2, 2))
    tree:add(f.src_port, buffer(4, 2))
    tree:add(f.dst_cid, buffer(6, 8))
    tree:add(f.packet_number, buffer(14, 4))
    local tag_at = buffer:len() - TAG
    add_part(tree, f.sealed, buffer, SHORT_HEADER, tag_at)
    tree:add(f.tag, buffer(tag_at, TAG))
    return string.format("data %d, %d bytes sealed", buffer(14, 4):uint(), tag_at - SHORT_HEADER)
end

function rpt.dissector(buffer, pinfo, root)
    local size = buffer:len()
    if size == 0 then return 0 end
    local long = buffer(0, 1):uint() >= 0x80
    if size < (long and LONG_HEADER or SHORT_HEADER + TAG) then return 0 end
    pinfo.cols.protocol = "RPT"
    local tree = root:add(rpt, buffer())
    tree:add(f.form, buffer(0, 1))
    local words = (long and dissect_long or dissect_short)(buffer, tree)
    local ports = string.format("%d > %d ", buffer(4, 2):uint(), buffer(2, 2):uint())
    pinfo.cols.info = ports .. words
    tree:append_text(", " .. ports .. words)
    return size
end

-- Anything may be in a UDP datagram: only a whole long packet with the right CRC proves RPT.
local function is_long_in_udp(buffer, pinfo, root)
    if buffer:len() < LONG_HEADER + CRC then return false end
    local flags = buffer(0, 1):uint()
    if flags < 0x80 or flags % 16 ~= 1 then return false end
    local at = crc_at(buffer)
    if at == nil or at + CRC ~= buffer:len() or not crc_is_right(buffer, at) then return false end
    pinfo.conversation = rpt
    rpt.dissector(buffer, pinfo, root)
    return true
end

DissectorTable.get("ip.proto"):add(253, rpt)
rpt:register_heuristic("udp", is_long_in_udp)
