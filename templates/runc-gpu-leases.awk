BEGIN { hand_out() }

# Hands out GPUs under the lock: reads the leases (its arguments), chooses, writes the lease of this
# container and puts the UUIDs into config.json.  Exit status 11: done; 12: refused, and the reason
# printed; 13: not written; 15: what is wanted is not free, and there is time left to wait.

function hand_out(   i, set) {
    read_table()
    read_request()
    now = uptime()
    for (i = 1; i < ARGC; i++) survey(ARGV[i])
    set = sharing == "balanced" ? quietest() : vacant()
    write_lease(set)
    write_devices(set)
    exit 11
}

# Line 1: for the shell, the uptime to wait until; line 2: how many GPUs, the names that were asked for
# (UUIDs) or nothing, and where in config.json the UUIDs belong.
function read_request(   line, field) {
    file = ENVIRON["bundle"] "/gpu-request"
    getline line < file
    if ((getline line < file) <= 0 || split(line, field, "\t") != 3) exit 13
    close(file)
    want = field[1] + 0
    at = field[3] + 0
    if (field[2] != "") total = split(field[2], order, ",")
    named = field[2]
}

# Counts the lease of a container, if it still counts, against each of its GPUs.
function survey(path,   line, field, n, i, gpu) {
    line = first_line(path)
    if (split(line, field, "\t") != 5) return
    if (field[1] "" == ENVIRON["handle"] "") return  # as text: 01 and 1 are one number
    sub(/\/[^\/]*$/, "", path)
    if (!counts(path, field[1], field[2], field[3], field[4])) return
    n = split(field[5], gpu, ",")
    for (i = 1; i <= n; i++) {
        load[gpu[i]]++
        holder[gpu[i]] = field[1]
        since[gpu[i]] = field[4]
    }
}

# Whether a lease still counts.  The steps look at what comes later in the life of a container first
# where it ends, and the other way round where it begins: the creator writes init.pid before it
# goes, and the process of an exec is in the cgroup before the runc that marked itself goes.
function counts(folder, id, pid, start, taken,   init, group, file, line, field, marks) {
    if (started(pid) == start "") return 1
    init = first_line(folder "/init.pid")
    if (init !~ /^[1-9][0-9]*$/ || started(init) == "") return 0
    group = group_of(init, id)
    if (group == "") return 0  # another process has the number of its init by now
    file = folder "/gpu-execs"
    while ((getline line < file) > 0) {
        split(line, field, " ")
        marks++
        if (field[2] != "" && started(field[1]) == field[2] "") {
            close(file)
            return 1
        }
    }
    close(file)
    if (!marks && now - taken < 300) return 1
    return inhabited(group, init)
}

# The folder of the cgroup of a container, cut behind its handle, because docker in a privileged task
# moves processes, the init among them, further down; "" if the process belongs elsewhere.
function group_of(init, id,   file, line, field, path, root, n) {
    file = ENVIRON["proc"] "/" init "/cgroup"
    while ((getline line < file) > 0) {
        n = index(line, ":")
        split(line, field, ":")
        if (field[2] == "pids" || (field[2] == "devices" && root !~ /pids$/))
            root = ENVIRON["cgroups"] "/" field[2]
        else if (field[2] != "" || root != "") continue
        path = substr(line, n + length(field[2]) + 2)
    }
    close(file)
    if (root == "") root = ENVIRON["cgroups"]
    n = index(path "/", "/" id "/")
    if (n) path = substr(path, 1, n + length(id))
    else if (!index(path, id)) return ""
    # In a container the path can begin further up than what is mounted here.
    for (file = path; file != ""; sub(/^\/[^\/]*/, "", file)) {
        n = (getline line < (root file "/cgroup.procs"))
        close(root file "/cgroup.procs")
        if (n >= 0) return root file
    }
    return root path
}

# Whether a process besides init lives in a cgroup or below it; yes, if that cannot be read.
function inhabited(folder, init,   pid, seen, list, tasks, home, others) {
    list = folder "/cgroup.procs"
    while ((getline pid < list) > 0) {
        seen++
        if (pid "" != init "" && started(pid) != "") others = 1
    }
    close(list)
    if (others) return 1
    tasks = first_line(folder "/pids.current")
    if (started(init) == "") return 0
    if (seen == 1 && tasks != "" && tasks + 0 <= threads + 0) return 0
    # The dead that nobody reaped, or cgroups further down: the rare case takes a process.
    if (index(folder, "\047")) return 1
    list = "find \047" folder "\047 -name cgroup.procs -exec cat {} + 2>/dev/null"
    while ((list | getline pid) > 0) {
        if (pid "" == init "") home = 1
        else if (started(pid) != "") others = 1
    }
    close(list)
    return others || (!home && started(init) != "")
}

# Those of the wanted or allowed GPUs that the fewest tasks hold; equals in the order of the table.
function quietest(   set, n, i, best, used) {
    if (named != "") return named
    for (n = 1; n <= want; n++) {
        best = 0
        for (i = 1; i <= total; i++)
            if (!(i in used) && (!best || load[order[i]] + 0 < load[order[best]] + 0)) best = i
        used[best]
        set = set (set == "" ? "" : ",") order[best]
    }
    return set
}

function vacant(   set, n, i) {
    for (i = 1; i <= total && n < want; i++)
        if (!(order[i] in holder)) {
            set = set (set == "" ? "" : ",") order[i]
            n++
        }
    if (n == want) return set
    if (ENVIRON["last"] == "") exit 15
    refuse(busy(n + 0))
}

function busy(n,   text, i, shown, gpu) {
    text = "GPUs of this worker are taken (wanted: " want ", free: " n ", waited: " timeout " s)"
    for (i = 1; i <= total; i++) {
        gpu = order[i]
        if (!(gpu in holder)) continue
        if (++shown <= 16)
            text = text (shown == 1 ? ": " : "; ") "GPU " index_of[gpu] " (" gpu ") is held by " \
                quote(holder[gpu], 80) " for " age(now - since[gpu])
    }
    return text (shown > 16 ? "; and " shown - 16 " more" : "")
}

function age(seconds) {
    if (seconds < 120) return int(seconds) " s"
    return seconds < 7200 ? int(seconds / 60) " min" : int(seconds / 3600) " h"
}

function write_devices(set,   file, all) {
    file = ENVIRON["spec"]
    RS = "\001"
    if ((getline all < file) <= 0) exit 13
    close(file)
    ORS = ""
    print substr(all, 1, at) set substr(all, at + 1) > file
    if (close(file)) exit 13
}
