# Positions count bytes of config.json from 1.  zone says where in the spec we are: R the root
# object, P process, E process.env, M mounts, O one mount, "" anywhere else.
BEGIN {
    RS = "\""
    LIMIT = 4096  # bytes of a string that are looked at; 8 GPUs of 7 MIG devices are 2296
    task = "^/tmp/build/"
    for (i = 0; i < 8; i++) task = task "[0-9a-f]"
    task = task "(/|$)"
    VISIBLE = "NVIDIA_VISIBLE_DEVICES"
    CAPABLE = "NVIDIA_DRIVER_CAPABILITIES"
    split(VISIBLE " " CAPABLE " NVIDIA_IMEX_CHANNELS NVIDIA_MOFED NVIDIA_GDS NVIDIA_GDRCOPY" \
        " NVIDIA_NVSWITCH NVIDIA_MIG_CONFIG_DEVICES NVIDIA_MIG_MONITOR_DEVICES", words, " ")
    for (i in words) ours[words[i]]
}

# A piece of a string: up to its end or to a quote with a backslash before it.
inside {
    n = length($0)
    past += n + 1
    if (zone != "") collect($0)
    if (substr($0, n) == "\\") {
        for (i = n - 1; i > 0 && substr($0, i, 1) == "\\"; i--);
        if ((n - i) % 2) next
    }
    inside = 0
    if (zone != "") string()
    next
}

# What stands between two strings.  In the seccomp profile, most of a spec, it is a , or a :
{
    if (zone != "" || !depth || ($0 != "," && $0 != ":")) between($0)
    past += length($0) + 1
    start = past
    inside = 1
    text = ""
    size = 0
}

# Only the start of a string is kept: adding piece to piece of a long one takes quadratic time.
function collect(piece) {
    if (size <= LIMIT) text = text (size ? "\"" : "") substr(piece, 1, LIMIT)
    size += n + 1
}

function between(s,   i, n, c) {
    n = length(s)
    for (i = 1; i <= n; i++) {
        c = substr(s, i, 1)
        if (c == "{" || c == "[") enter(c, past + i)
        else if (c == "}" || c == "]") leave(c)
        else if (c ~ /[ \t\r\n]/) continue
        else if (c != "," && c != ":") {
            if (zone != "" || !depth) literal(c, past + i)
            continue
        } else if (zone != "" || !depth) {
            if (!depth || (zone == "E" && last != "s")) doubt = 1
            if (c == ",") value_ends()
        }
        last = c
    }
    if (depth == 0) { tops++; top = NR }
}

function enter(c, at,   inner) {
    inner = ""
    if (depth == 0) { inner = "R"; if (c != "{" || roots++) doubt = 1 }
    else if (zone == "R" && key == "process") { inner = "P"; brace = at; members = 0 }
    else if (zone == "R" && key == "mounts") inner = "M"
    else if (zone == "P" && key == "env") { inner = "E"; bracket = at }
    else if (zone == "M") inner = "O"
    else if (zone == "E" || (zone == "O" && key == "destination")) doubt = 1
    # An object where a list is due or the other way, or a container where a key is due.
    if (inner ~ /[RPO]/ ? c != "{" : inner != "" && c != "[") doubt = 1
    if (zone ~ /[RPO]/ && last != ":") doubt = 1
    if (inner == "O") delete seen["Odestination"]
    kind[++depth] = c
    zones[depth] = zone = inner
    key = ""
}

function leave(c) {
    if (depth == 0 || kind[depth] (c) !~ /^({}|\[\])$/) { doubt = 1; return }
    value_ends()
    if (zone == "E") {
        if (last != "s" && last != "[") doubt = 1
        if (cut) drop(cut, finish)
        after = last == "s" ? finish : bracket
        lead = last == "s" && !cut ? "," : ""
        cut = 0
    }
    zone = --depth ? zones[depth] : ""
    key = ""
}

# The value of a key is complete: null stands for no env at all.
function value_ends() {
    if (zone == "P" && key == "env" && bare != "") {
        if (bare != "null" || bare_end - bare_at != 3) doubt = 1
        drop(bare_at, bare_end)
        after = bare_end
        lead = "["
        tail = "]"
    }
    bare = ""
    key = ""
}

# A character of a number, true, false or null.
function literal(c, at) {
    if (!depth || zone == "E" || zone == "M" || (zone == "R" && key == "process") ||
        (zone == "O" && key == "destination")) doubt = 1
    if (bare == "") bare_at = at
    if (length(bare) < 5) bare = bare c
    bare_end = at
}

function drop(from, to) { from_[++drops] = from; to_[drops] = to }

# A string in a zone has ended: a key, a value, or an element.
function string() {
    finish = past
    if (zone == "E") {
        if (last != "," && last != "[") doubt = 1
        if (cut) drop(cut, start - 1)
        cut = variable() ? start : 0
        last = "s"
    } else if (zone == "M") doubt = 1
    else if (last != ":") name(text)
    else if (zone == "O") { if (key == "destination") mount(plain(text)) }
    else if (key == "process" || key == "mounts" || key == "env") doubt = 1
}

# Go takes a key whatever its case (and k and s from beyond ASCII for k and s), and the last of
# several: such a spec, which no containerd writes, is not judged here.
function name(s) {
    members++
    key = s
    if (s ~ /[^A-Za-z0-9_.-]/) doubt = 1
    s = tolower(s)
    if (zone s !~ /^(Rprocess|Rmounts|Penv|Odestination)$/) return
    if (s != key || seen[zone s]++) doubt = 1
}

function mount(path) {
    if (path ~ task) tasks = 1
    if (path ~ /^\/tmp\/build\/(get|put)(\/|$)/) others = 1
}

# True if the env entry at hand is one of those that are taken out; the last request counts.
function variable(   s, i) {
    s = substr(text, 1, 300)  # no name of ours is longer, were every byte a \u escape
    if (index(s, "\\")) s = plain(s)
    i = index(s, "=")
    s = substr(s, 1, i - 1)
    if (!(s in ours)) return 0
    if (s == VISIBLE) { asked = text; asking = 1; longest = size }
    if (s == CAPABLE) capable = text
    return 1
}

# Undoes the escapes of JSON, for what is compared with ASCII text; anything else becomes a ?.
function plain(s,   out, i, c) {
    while (i = index(s, "\\")) {
        c = substr(s, i + 1, 1)
        out = out substr(s, 1, i - 1)
        if (c == "u") {
            c = hex(substr(s, i + 2, 4))
            out = out (c > 0 && c < 128 ? sprintf("%c", c) : "?")
            s = substr(s, i + 6)
            continue
        }
        out = out (index("\"\\/", c) ? c : "?")
        s = substr(s, i + 2)
    }
    return out s
}

function hex(s,   i, n) {
    for (i = 1; i <= length(s); i++)
        n = 16 * n + index("0123456789abcdef", tolower(substr(s, i, 1))) - 1
    return n
}

function value(entry) {
    entry = plain(entry)
    return substr(entry, index(entry, "=") + 1)
}

# Text of a request, fit to stand in a JSON string and to be read.
function quote(s, most) {
    gsub(/[^A-Za-z0-9._:\/=+-]/, "?", s)
    return length(s) > most ? substr(s, 1, most) "..." : s
}

function say(verdict) { print verdict; exit }

function refuse(why) { say("refuse " why) }

END {
    # The text has to end outside a string, at the end of the one root object.
    if (!inside || top != NR || tops != 1 || roots != 1) doubt = 1
    if (!tasks || others) say("plain")
    if (doubt) refuse("config.json of this task is not one that can be read without doubt")
    if (!after) {  # process has no env
        after = brace
        lead = "\"env\":["
        tail = members ? "]," : "]"
    }
    want = asking ? value(asked) : "all"
    if (want ~ /^(none|void)?$/ || (ENVIRON["trouble"] != "" && !asking)) say("plain")
    if (ENVIRON["trouble"] != "") refuse("this worker has no usable GPU: " ENVIRON["trouble"])
    if (ENVIRON["link"]) refuse("config.json of this task is a symbolic link")
    read_table()
    want = want == "all" ? allowed : chosen(want)
    if (want == "") say("plain")
    write(VISIBLE "=" want, CAPABLE "=" capabilities(capable == "" ? "all" : value(capable)))
    say("gpu")
}

function read_table(   line, field, i) {
    RS = "\n"
    while ((getline line < ENVIRON["table"]) > 0) {
        split(line, field, "\t")
        if (field[1] == "allowed") { allowed = field[2]; rows++ }
        if (field[1] == "capabilities") { option = field[2]; rows++ }
        if (field[1] == "device") {
            uuid[field[2]] = field[3]
            known = known (known == "" ? "" : ", ") field[2]
        }
    }
    if (rows != 2) refuse("this worker has no usable GPU: the table of its GPUs is incomplete")
}

# The full UUIDs of a list of spellings, each once.
function chosen(list,   token, n, i, out, given) {
    if (longest > LIMIT) refuse("the list in " VISIBLE " is too long")
    n = split(list, token, ",")
    for (i = 1; i <= n; i++) {
        if (!(token[i] in uuid))
            refuse("GPU \\\"" quote(token[i], 64) "\\\" is not available on this worker " \
                (known == "" ? "(it has none to give)" : "(available: " listing() ")"))
        if (!(uuid[token[i]] in given)) out = out (out == "" ? "" : ",") uuid[token[i]]
        given[uuid[token[i]]]
    }
    return out
}

function listing(   s) {
    s = known
    gsub(/[^A-Za-z0-9._:\/=+, -]/, "?", s)
    return length(s) > 800 ? substr(s, 1, 800) "..." : s
}

# What both the task and the option name; the option itself where that is nothing.
function capabilities(list,   words, n, i, out, w) {
    n = split(option == "all" ? "compute,compat32,graphics,utility,video,display,ngx" : option,
        words, ",")
    list = "," list ","
    if (index(list, ",all,")) return option
    for (i = 1; i <= n; i++) {
        w = words[i]
        if (index(list, "," w ",")) out = out (out == "" ? "" : ",") w
    }
    return out == "" ? option : out
}

# Everything has been read and decided before the file is opened for writing.
function write(one, two,   spec, all, at, i) {
    spec = ARGV[1]
    RS = "\001"  # no JSON text holds it: the file is one record
    if ((getline all < spec) <= 0 || length(all) != past - 1)
        refuse("config.json of this task is not one that can be read without doubt")
    close(spec)
    ORS = ""
    at = 1
    for (i = 1; i <= drops; i++) {
        print substr(all, at, from_[i] - at) > spec
        at = to_[i] + 1
    }
    print substr(all, at, after + 1 - at) lead "\"" one "\",\"" two "\"" tail > spec
    print substr(all, after + 1) > spec
    if (close(spec)) refuse("config.json of this task could not be written")
}
