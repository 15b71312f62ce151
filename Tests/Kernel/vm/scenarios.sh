# shellcheck shell=bash
# How the scenarios of a folder are run against machines that are booted once: chosen by name, each within its time, its output
# shown when it breaks. Shared by Tests/Kernel/run and Tests/Machine/run, which boot the machines; `here` is the folder.
# shellcheck disable=SC2154
running=
rows=()
# Logs of what broke, to be shown at the end.
evidence=()

finish() {
    local status=$?
    trap - EXIT
    trap '' INT TERM HUP PIPE
    if [ -n "$running" ]; then
        kill -TERM "$running" 2>/dev/null
        wait "$running" 2>/dev/null
    fi
    # A scenario may have had machines of its own.
    "$vm" ls 2>/dev/null | while read -r name _; do "$vm" kill "$name"; done >/dev/null 2>&1
    "$vm" net delete "$network" 2>/dev/null
    if [ "${KEEP:-}" = 1 ]; then echo "left behind: $REPLICA_JUDGE" >&2; else rm -rf "$REPLICA_JUDGE"; fi
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP

# A scenario may ask for more than four minutes.
limit_of() {
    local seconds
    seconds=$(sed -n 's/^# seconds: //p' "$1")
    echo "${seconds:-240}"
}
directions_of() { sed -n 's/^# directions: //p' "$1"; }
# what_of FILE: the scenario in a sentence, from its first comment
what_of() { sed -n '/^# directions:/q; 2,$s/^# //p' "$1" | tr '\n' ' ' | sed 's/ $//; s/\$\(one\|two\)/*\1*/g'; }
# measured_in LOG: one more cell of the table, `TEXT |`; for folders that have it
measured_in() { :; }
row() { printf '%-22s %-9s %-8s %7s\n' "$@"; }

# judged SCENARIO DIRECTION: one of them within its time; its output is shown when it fails
judged() {
    local file=$here/$1.sh status=0 started=$SECONDS result out
    out=$REPLICA_JUDGE/$1-$2.log
    timeout -k 20 "$(limit_of "$file")" "$file" "$2" >"$out" 2>&1 &
    running=$!
    wait "$running" || status=$?
    running=
    case $status in
        0) result=holds ;;
        77) result=skipped ;;
        124 | 137) result=late ;;
        *) result=BROKEN ;;
    esac
    rows+=("| $1 | $(what_of "$file") | $2 | $release | $result |$(measured_in "$out")")
    row "$1" "$2" "$result" $((SECONDS - started))
    case $result in
        holds) [ "${VERBOSE:-}" != 1 ] || sed 's/^/    /' "$out" ;;
        *) if [ -t 1 ]; then sed 's/^/    /' "$out"; else evidence+=("$out"); fi ;;
    esac
    [ "$result" = holds ] || [ "$result" = skipped ] || broken=$((broken + 1))
}

broken=0
begun=$SECONDS
wanted=()

table_file=
# options ARGUMENT...: takes `--table FILE`; the rest is in `wanted`
options() {
    if [ "${1:-}" = --table ]; then
        table_file=${2:?--table needs a file}
        shift 2
        [ $# = 0 ] || { echo "the table is of all scenarios" >&2; exit 2; }
    fi
    wanted=("$@")
}

# choose [SCENARIO[/DIRECTION]...]: which of them are to be run, by default all
choose() {
    local file name
    wanted=("$@")
    if [ ${#wanted[@]} = 0 ]; then
        for file in "$here"/*.sh; do
            [ -z "$(directions_of "$file")" ] || wanted+=("$(basename "$file" .sh)")
        done
    fi
    for name in "${wanted[@]}"; do
        file=$here/${name%%/*}.sh
        [ -x "$file" ] || { echo "no scenario ${name%%/*}" >&2; exit 2; }
        [ "$name" = "${name#*/}" ] || [[ " $(directions_of "$file") " = *" ${name#*/} "* ]] ||
            { echo "${name%%/*} has no direction ${name#*/}, but $(directions_of "$file")" >&2; exit 2; }
    done
}

run_chosen() {
    local name scenario directions direction
    row scenario direction result seconds
    for name in "${wanted[@]}"; do
        scenario=${name%%/*}
        if [ "$scenario" != "$name" ]; then directions=${name#*/}; else directions=$(directions_of "$here/$scenario.sh"); fi
        for direction in $directions; do judged "$scenario" "$direction"; done
    done
}

# tell: what broke, and the sum of it
tell() {
    local out
    for out in "${evidence[@]}"; do
        echo "--- $(basename "$out" .log)"
        tail -n 70 "$out" | cut -c 1-200
    done
    echo "${#rows[@]} runs, $broken broken, $((SECONDS - begun)) s"
    [ "$broken" = 0 ]
}
