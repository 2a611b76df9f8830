# Judges config.json and, for a GPU task, rewrites it.  Exit status 10: no GPU; 11: a GPU task,
# rewritten; 12: refused, nothing written, and the reason printed; 13: not written, or not whole;
# 14: a GPU task, rewritten but for the UUIDs, which are to be handed out under the lock.
#
# zone says where in the spec we are: R the root object, P process, E process.env, M mounts,
# O one mount, "" anywhere else.  Positions count bytes from 1.  What Go would not write itself
# and could read in more than one way makes a doubt: a task is then refused.
BEGIN {
    file = ENVIRON["spec"]
    RS = "\001"  # no JSON text holds it: the whole file is one record
    if ((getline all < file) <= 0) exit 10
    if ((getline rest < file) > 0) doubt = 1
    close(file)
    for (i = 0; i < 8; i++) hex8 = hex8 "[0-9a-f]"
    if (all !~ "/tmp/build/" hex8) exit 10  # most containers: no task, whatever else they are

    LIMIT = 4096  # bytes of a string that are looked at; 8 GPUs of 7 MIG devices take 2296
    inner["Rprocess{"] = "P"
    inner["Rmounts["] = "M"
    inner["Penv["] = "E"
    inner["M{"] = "O"
    watched["Rprocess"]; watched["Rmounts"]; watched["Penv"]; watched["Odestination"]
    VISIBLE = "NVIDIA_VISIBLE_DEVICES"
    CAPABLE = "NVIDIA_DRIVER_CAPABILITIES"
    COUNT = "CONCOURSE_GPU_COUNT"
    split(VISIBLE " " CAPABLE " NVIDIA_IMEX_CHANNELS NVIDIA_MOFED NVIDIA_GDS NVIDIA_GDRCOPY" \
        " NVIDIA_NVSWITCH NVIDIA_MIG_CONFIG_DEVICES NVIDIA_MIG_MONITOR_DEVICES", words, " ")
    for (i in words) ours[words[i]]
    read_spec()
    decide()
}

# Cut at the quotes, a spec is text between strings and strings in turn, but for those quotes
# that have an odd number of backslashes before them.
function read_spec(   n, k, s, text, size, escaped) {
    n = split(all, piece, "\"")
    escaped = index(all, "\\\"")
    for (k = 1; k <= n; k++) {
        # Most of a spec is strings that don't matter, one after the other.
        if (zone == "" && depth && !escaped) while (piece[k] == "," || piece[k] == ":") k += 2
        here = k
        s = piece[k]
        if (s != "," && s != ":") between(s)  # most often it is one of these
        else if (zone != "") {
            if (zone == "E" && (s == ":" || last != "s")) doubt = 1
            if (s == ",") key = ""
            last = s
        }
        if (!depth != (k == n)) doubt = 1
        if (k >= n) break
        here = ++k
        if (zone == "" && !escaped) continue
        s = text = piece[k]
        size = length(s)
        while (s ~ /\\$/ && k < n && escapes(s)) {
            s = piece[++k]
            # Joining all pieces of a long string would take quadratic time: its start will do.
            if (size < LIMIT) text = text "\"" substr(s, 1, LIMIT)
            size += length(s) + 1
        }
        there = k + 1
        if (zone != "") string(text, size)
    }
}

# How many bytes lie before a piece.  It is asked for few, in their order.
function before(number) {
    while (summed + 1 < number) past += length(piece[++summed]) + 1
    return past
}

function escapes(s,   n, i) {
    n = length(s)
    for (i = n; i > 0 && substr(s, i, 1) == "\\"; i--);
    return (n - i) % 2
}

function between(s,   i, n, c) {
    n = length(s)
    if (key == "env" && zone == "P" && s ~ /^[ \t\r\n]*:[ \t\r\n]*null[ \t\r\n]*[,}]/) {
        after = before(here) + index(s, "null") + 3  # null stands for no env at all
        drop(after - 3, after)
        lead = "["
        tail = "]"
        key = ""
    }
    for (i = 1; i <= n; i++) {
        c = substr(s, i, 1)
        if (c == "{" || c == "[") enter(c, i)
        else if (c == "}" || c == "]") leave(c)
        else if (c == "," || c == ":") {
            if (!depth || (zone == "E" && last != "s")) doubt = 1
            if (c == ",") key = ""
        } else {
            if (c ~ /[ \t\r\n]/) continue
            if (!depth || zone == "E" || zone == "M" || (zone key) in watched) doubt = 1
            continue
        }
        last = c
    }
}

function enter(c, i,   to) {
    opened[depth + 1] = c
    if (depth && zone == "") { zones[++depth] = ""; return }
    to = depth ? inner[zone key c] : "R"
    # The wrong kind of value, a value where a key is due, or a second text.
    if (to == "" && (zone == "E" || zone == "M" || (zone key) in watched)) doubt = 1
    if (zone ~ /[RPO]/ && last != ":") doubt = 1
    if (to == "R" && (roots++ || c == "[")) doubt = 1
    if (to == "P") brace = before(here) + i
    if (to == "E") bracket = before(here) + i
    delete seen["Odestination"]
    zones[++depth] = zone = to
    key = ""
}

function leave(c) {
    if (!depth || (opened[depth] == "{") != (c == "}")) { doubt = 1; return }
    if (zone == "E") {
        if (last == ",") doubt = 1
        after = last == "s" ? before(there) : bracket
        if (cut) drop(cut, after)
        lead = last == "s" && !cut ? "," : ""
    }
    zone = --depth ? zones[depth] : ""
    key = ""
}

function drop(from, to) {
    cut_from[++cuts] = from
    cut_to[cuts] = to
}

# A string in a zone has ended: an element, a key or a value.
function string(text, size) {
    if (zone == "E") {
        if (last == "s") doubt = 1
        if (cut) drop(cut, before(here) - 1)
        cut = text ~ /^NVIDIA_|^CONCOURSE_GPU|\\/ && variable(text, size) ? before(here) : 0
        last = "s"
    } else if (zone == "M") doubt = 1
    else if (last != ":") name(text)
    else if (zone key == "Odestination") {
        if (text ~ "^/tmp/build/" hex8 "(/|$)") tasks = 1
        if (text ~ /^\/tmp\/build\/(get|put)(\/|$)/) others = 1
        if (odd(text)) doubt = 1
    } else if ((zone key) in watched) doubt = 1
}

# Go takes a key in any case (even with the long s and the Kelvin sign), and the last of several.
function name(text) {
    key = text
    if (zone == "P") members = 1
    if (key ~ /[^A-Za-z0-9_.-]/) doubt = 1
    text = zone tolower(key)
    if (text in watched && (text != zone key || seen[text]++)) doubt = 1
}

# True if an entry of env is one of those that are taken out; the last request counts.
function variable(text, size,   s) {
    s = substr(text, 1, 300)  # longer than any name of ours, were all its letters \u escapes
    if (index(s, "\\")) { if (odd(substr(s, 1, index(s "=", "=")))) doubt = 1 }
    s = substr(s, 1, index(s, "=") - 1)
    if (s == COUNT) { number = substr(text, length(s) + 2, 300); counted = 1 }
    if (!(s in ours)) return 0
    text = substr(text, length(s) + 2)
    if (s == VISIBLE) { asked = text; asks = 1 }
    if (s == CAPABLE) { wanted = text; wants = 1 }
    # What is taken out has to be sound: a spec that no parser takes must not become one.
    if (size > LIMIT) long = s
    gsub(/\\(["\\\/bfnrt]|u[0-9A-Fa-f][0-9A-Fa-f][0-9A-Fa-f][0-9A-Fa-f])/, "", text)
    if (text ~ /[^ -\377]|\\/ && size <= LIMIT) doubt = 1
    return 1
}

# True if a letter, digit, = or / is written as an escape, which Go never does.
function odd(s) {
    return s ~ /\\(\/|u00(2[^6]|3[^CEce]|[4-7]))/
}

function decide(   none, set, n) {
    if (!tasks || others) exit 10
    if (doubt || depth || !brace) refuse("config.json of this task cannot be read without doubt")
    if (!after) {  # process has no env
        after = brace
        lead = "\"env\":["
        tail = members ? "]," : "]"
    }
    if (!asks) asked = "all"
    none = asked == "" || asked == "none" || asked == "void"
    if (counted && number !~ /^(0|[1-9][0-9]?[0-9]?)$/)
        refuse(COUNT " of this task is no number of GPUs: \\\"" quote(number, 64) "\\\"")
    number += 0
    if (counted ? !number : none) exit 10
    if (none) refuse(COUNT " of this task is " number ", and " VISIBLE " asks for none")
    if (ENVIRON["trouble"] != "") {
        if (!asks && !counted) exit 10
        refuse("this worker has no usable GPU: " ENVIRON["trouble"])
    }
    if (ENVIRON["link"]) refuse("config.json of this task is a symbolic link")
    if (long != "") refuse(long " is too long")
    read_table()
    if (asked != "all") {
        set = chosen()
        n = split(set, words, ",")
        if (counted && n != number)
            refuse(COUNT " of this task is " number ", and " VISIBLE " names " n)
    } else {
        n = counted ? number : standard == "all" ? total : standard + 0
        if (!counted && (!total || !n)) exit 10
        if (n > total) refuse(COUNT " of this task is " number ", and this worker has " total \
            (total == 1 ? " GPU" : " GPUs"))
    }
    if (sharing != "shared") write_request(n, set)
    if (set == "") set = first(n)
    write(set)
    write_lease(set)
    exit 11
}

function first(n,   i, out) {
    for (i = 1; i <= n; i++) out = out (i == 1 ? "" : ",") order[i]
    return out
}

# Leaves to the pass that holds the lock what it needs to know.
function write_request(n, set,   request) {
    write("")
    request = ENVIRON["bundle"] "/gpu-request"
    print int(uptime()) + timeout "\n" n "\t" set "\t" place "\n" > request
    if (close(request)) exit 13
    exit 14
}

# The full UUIDs of the spellings that were asked for, each once.
function chosen(   token, n, i, out, given) {
    n = split(asked, token, ",")
    for (i = 1; i <= n; i++) {
        if (!(token[i] in uuid))
            refuse("GPU \\\"" quote(token[i], 64) "\\\" is not available on this worker (" \
                (known == "" ? "it has none to give)" : "available: " quote(known, 800) ")"))
        if (!(uuid[token[i]] in given)) out = out (out == "" ? "" : ",") uuid[token[i]]
        given[uuid[token[i]]]
    }
    return out
}

# What both the task and the option name; the option itself where that is nothing.
function capabilities(   word, n, i, out) {
    wanted = "," wanted ","
    if (!wants || index(wanted, ",all,")) return option
    n = split(option == "all" ? "compute,compat32,graphics,utility,video,display,ngx" : option,
        word, ",")
    for (i = 1; i <= n; i++)
        if (index(wanted, "," word[i] ",")) out = out (out == "" ? "" : ",") word[i]
    return out == "" ? option : out
}

# All has been read and decided before the file is opened for writing.  Sets place: the bytes of
# the new file before the UUIDs.
function write(set,   at, i, part) {
    ORS = ""
    at = 1
    for (i = 1; i <= cuts; i++) {
        part = substr(all, at, cut_from[i] - at)
        place += length(part)
        print part > file
        at = cut_to[i] + 1
    }
    part = substr(all, at, after + 1 - at) lead "\"" VISIBLE "="
    place += length(part)
    print part set "\",\"" CAPABLE "=" capabilities() "\"" tail substr(all, after + 1) > file
    if (close(file)) exit 13  # a full disk: what is left in the file is no spec to judge again
}
