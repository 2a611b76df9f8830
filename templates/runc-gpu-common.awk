# What both passes need: the table, processes, leases, refusals.
#
# A lease is one line in the bundle of the container that holds the GPUs:
# handle, pid and start time of the process that creates it, uptime in seconds, UUIDs.

function refuse(reason) {
    print reason
    exit 12
}

# Text of a request, fit to stand in a JSON string.
function quote(s, most) {
    gsub(/\\u....|\\.|[^A-Za-z0-9._:\/=+, -]/, "?", s)
    return length(s) > most ? substr(s, 1, most) "..." : s
}

# Sets sharing, standard (what a task gets that asks for nothing: all or a number), timeout,
# option (the capabilities), order (the allowed UUIDs, total of them), uuid (of a spelling) and
# index_of (a UUID).
function read_table(   line, field, rows) {
    RS = "\n"
    sharing = "shared"
    standard = "all"
    while ((getline line < ENVIRON["table"]) > 0) {
        split(line, field, "\t")
        if (field[1] == "allowed") { allowed = field[2]; rows++ }
        if (field[1] == "capabilities") { option = field[2]; rows++ }
        if (field[1] == "sharing") sharing = field[2]
        if (field[1] == "default") standard = field[2]
        if (field[1] == "timeout") timeout = field[2]
        if (field[1] == "device") {
            uuid[field[2]] = field[3]
            if (!(field[3] in index_of)) index_of[field[3]] = field[2]
            known = known (known == "" ? "" : ", ") field[2]
        }
    }
    close(ENVIRON["table"])
    if (rows != 2) refuse("this worker has no usable GPU: the table of its GPUs is incomplete")
    total = split(allowed, order, ",")
}

function first_line(file,   line) {
    if ((getline line < file) <= 0) line = ""
    close(file)
    return line
}

# When a process started, in ticks since the boot; "" if it is no more, or dead and not yet reaped.
# Sets threads.  Its name can hold anything, line breaks and brackets too; what follows is numbers.
function started(pid,   file, line, text, field) {
    file = ENVIRON["proc"] "/" pid "/stat"
    while ((getline line < file) > 0) text = text line
    close(file)
    sub(/.*\) /, "", text)
    split(text, field, " ")
    threads = field[18]
    return field[1] ~ /^[ZXx]$/ ? "" : field[20] ""
}

function uptime(   field) {
    split(first_line(ENVIRON["proc"] "/uptime"), field, " ")
    return field[1]
}

# Where GPUs are shared, a lease only tells who holds what, and what cannot be told is no matter.
function write_lease(set,   file, start) {
    start = started(ENVIRON["pid"])
    if (ENVIRON["handle"] ~ /[^A-Za-z0-9_.+-]/) start = ""  # which runc does not take either
    if (start == "" && sharing == "shared") return
    if (start == "") refuse("the GPUs of this container cannot be kept for it")
    file = ENVIRON["bundle"] "/gpu-lease"
    printf "%s\t%s\t%s\t%s\t%s\n", ENVIRON["handle"], ENVIRON["pid"], start, uptime(), set > file
    if (close(file)) exit 13
}
