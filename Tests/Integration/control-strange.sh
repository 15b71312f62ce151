#!/usr/bin/env bash
# What an administrator gets for a mistake, and a hostile one for malice: broken and missing configurations, wrong words,
# surroundings that do not fit. One clear answer, the right exit code, never a crash.
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
requires "$python"

other=$work/other.conf
# with SED-SCRIPT: the configuration, changed
with() {
    sed "$1" "$conf" >"$other"
    chmod 600 "$other"
    if cmp -s "$conf" "$other"; then fail "'$1' changes nothing"; fi
}
alice_with() { on alice "$bin/replctl" -c "$other" "$@"; }
# one_line_first STATUS TEXT COMMAND...: as refused, and its first line is the text (a pattern for all of it)
one_line_first() {
    local status=$1 text=$2
    shift 2
    refused "$status" . "$@"
    [[ "$(said | head -n 1)" =~ ^$text$ ]] || fail "'$*' says: $(said)"
}

nodes_with 32M
for node in "${nodes[@]}"; do "$node" create-md r0 >"$work/create-md.out" 2>&1; done

say "configurations"
one_line_first 20 "Can not open '/nonexistent'." on alice "$bin/replctl" -c /nonexistent up r0
one_line_first 20 "Can not open '$work'." on alice "$bin/replctl" -c "$work" status
one_line_first 20 "Can not open '/dev/zero'." on alice "$bin/replctl" -c /dev/zero status
one_line_first 1 'WARN: no normal resources defined for this host \(alice\)!\?' on alice "$bin/replctl" -c /dev/null up all
head -c 5000 /dev/urandom >"$other"
one_line_first 10 "$other:[0-9]+: (Parse error: .*|Token too long .*|Unterminated double quoted string.*)" alice_with up r0
with 's/^}$//'
one_line_first 10 "$other:[0-9]+: .*" alice_with up r0
with 's/device .*;/device \/dev\/drbd;/'
one_line_first 10 "$other:8: no minor given nor device name contains a minor number" alice_with up r0
with 's,device /dev/drbd0,device minor 99999999,'
one_line_first 10 "$other:8: Parse error: 'a minor number' expected," alice_with up r0
for name in ../../etc/x -x . all; do
    with "s,^resource r0,resource \"$name\","
    one_line_first 10 "$other:7: resource name '$name' is not allowed" alice_with up all
done
with 's/timeout 20/timeout 6000/'
one_line_first 10 "$other:3: timeout 6000 => 6000 out of range \[1..600\]." alice_with up r0
with "s/127.0.0.1:$port/127.0.0.1:77888/"
one_line_first 10 "$other:10: port 77888 => 77888 out of range \[1..65535\]." alice_with up r0
with "s/127.0.0.1:/host.example:/"
one_line_first 10 "$other:10: Parse error: 'ssocks \| sdp \| ipv4 \| ipv6 \| <ipv4 address> ' expected," alice_with up r0
with 's/disable-ip-verification;//; s/127.0.0.1:/198.51.100.77:/'
one_line_first 10 "$other:10: in resource r0, on alice:" alice_with up r0
with 's/address 127.0.0.1:/address ipv6 [::1]:/'
one_line_first 10 "$other:10: in resource r0:" alice_with up r0
said | grep -q 'different families: ipv6 and ipv4' || fail "not why: $(said)"
with 's/include.*//;1i include "missing.conf";'
one_line_first 10 "$other:1: Failed to open include file '$work/missing.conf'." alice_with up r0
with 's/device .*;/& bogus 1;/'
one_line_first 10 "$other:8: Parse error: .* expected," alice_with up r0

say "settings that can not be: told at once, and the rest is up"
wrong_net() { # OPTION CODE
    with "s/net  {/net { $1/"
    refused 1 "^r0: Failure: ($2)" alice_with up r0
    equal StandAlone alice cstate r0
    silent alice_with down r0
}
wrong_net 'cram-hmac-alg nonsense; shared-secret x;' 120
wrong_net 'cram-hmac-alg crc32c; shared-secret x;' 121
wrong_net 'csums-alg rot13;' 144
wrong_net 'verify-alg nonsense;' 146
wrong_net 'data-integrity-alg rot13;' 141
wrong_net 'allow-two-primaries; protocol A;' 139
wrong_net 'on-congestion pull-ahead;' 155
with "s/net  {/net { verify-alg crc32c; csums-alg md5; cram-hmac-alg sha1; shared-secret x;/"
silent alice_with up r0
silent alice_with down r0
wrong_disk() { # PATH TEXT
    with "s,${disk_of[alice]},$1,"
    one_line_first 1 "$2" alice_with up r0
    one_line_first 20 "$2" alice_with create-md r0
    silent alice_with down r0
}
wrong_disk /nonexistent 'open\(/nonexistent\) failed: No such file or directory'
wrong_disk /dev/full "'/dev/full' is not a block device!"
wrong_disk "$work" "'$work' is not a block device!"

say "words"
one_line_first 1 "replctl: Unknown command ''" alice ''
one_line_first 1 "'' not defined in your config \(for this host\)." alice up ''
one_line_first 1 "'r0/' not defined in your config \(for this host\)." alice up r0/
one_line_first 1 "'r0/99999' not defined in your config \(for this host\)." alice role r0/99999
one_line_first 1 "'minor-99999999999' not defined in your config \(for this host\)." alice role minor-99999999999
one_line_first 1 'up operates on whole resources, but you specified a specific volume!' alice up r0/0
one_line_first 1 "replctl: option '--config-file' requires an argument" on alice "$bin/replctl" -c
one_line_first 1 "replctl: option '--d' is ambiguous; possibilities: .*" alice connect --d r0
one_line_first 1 "replctl: unrecognized option '--nosuch'" alice up --nosuch r0
one_line_first 20 'drbdsetup: Option --timeout: 99999999999999999999 is not a valid number' alice connect --timeout=99999999999999999999 r0
one_line_first 20 'drbdsetup: Option --timeout: r0 is not a valid number' alice connect --timeout r0
one_line_first 20 'drbdsetup: Option --wfc-timeout: x is not a valid number' alice wait-connect -t x r0
one_line_first 20 "drbdsetup: connect: unrecognized option 'foo'" alice -Wfoo connect r0
one_line_first 1 "There is no host section for the peer 'carol'." alice -P carol up r0
one_line_first 1 'WARN: nothing stacked for this host \(alice\), nothing to do in stacked mode!' alice -S up all
setup() { on alice "$bin/replctl" setup "$@"; }
one_line_first 20 "Cannot determine minor device number of device 'x'" setup primary x
one_line_first 20 "replctl setup: unknown command 'nosuch'" setup nosuch
one_line_first 10 '0: Failure: \(127\) Device minor not allocated' setup attach 0
silent alice up r0
one_line_first 20 'replctl setup: attach: attach takes VOLUME DATA META INDEX' setup attach 0
one_line_first 20 'replctl setup: primary: primary takes VOLUME' setup primary 0 1 2
one_line_first 20 'replctl setup: secondary: unknown option .--nosuch.' setup secondary 0 --nosuch
one_line_first 20 "replctl setup: connect: 'a' is not an address" setup connect r0 a b
one_line_first 20 'replctl setup: disk-options: .*' setup disk-options 0 --al-extents=x
silent alice down r0

say "surroundings"
one_line_first 1 'r0: /nonexistent/a/r0.settings: No such file or directory' env REPLICA_NODE=alice REPLICA_RUN_DIR=/nonexistent/a "$bin/replctl" -c "$conf" up r0
one_line_first 1 'r0: can not run /nonexistent: No such file or directory' on alice env REPLICA_DAEMON=/nonexistent "$bin/replctl" -c "$conf" up r0
one_line_first 1 "r0: socket path '.*' is too long" env REPLICA_NODE=alice REPLICA_RUN_DIR="$work/$(printf 'y%.0s' {1..100})" "$bin/replctl" -c "$conf" up r0
for name in pid log ctl; do
    rm -rf "$work/alice/run/r0.$name"
    mkdir "$work/alice/run/r0.$name"
    one_line_first 1 "replicad: .*$work/alice/run/r0.$name: (Is a directory|Address already in use)" alice up r0
    rmdir "$work/alice/run/r0.$name"
done
echo garbage >"$work/alice/run/r0.pid"
silent alice up r0
silent alice down r0
rm -rf "$work/alice/run"
silent alice down r0
one_line_first 10 'r0: No such resource' alice status r0
silent alice up r0
silent alice down r0
# A run directory and a configuration by relative names: the daemon's and the handlers' working directory is /.
mkdir "$work/relative"
relative() { (cd "$work" && REPLICA_NODE=alice REPLICA_RUN_DIR=relative "$bin/replctl" -c replica.conf "$@"); }
silent relative up r0
[ -s "$work/relative/proc/drbd" ] || fail "no status file: $(ls "$work/relative")"
[ "$(readlink "$work/relative/drbd-minor-0.conf")" = "$conf" ] || fail "registered: $(readlink "$work/relative/drbd-minor-0.conf")"
silent relative down r0
printf 'volume x\n' >"$work/bad.settings"
one_line_first 1 "replicad: $work/bad.settings: line 1: can not read 'volume x'" on alice "$bin/replicad" r0 --settings "$work/bad.settings"

say "a daemon that does not answer"
silent alice up r0
pid=$(pid_of alice)
kill -STOP "$pid"
with 's/^global {/& cmd-timeout-short 1; cmd-timeout-medium 1;/'
one_line_first 20 "Command 'replctl setup secondary 0' did not terminate within 1 seconds" alice_with secondary r0
one_line_first 20 'r0: the daemon does not answer' alice role r0
kill -CONT "$pid"
equal Secondary/Unknown alice role r0
background waits on alice "$bin/replctl" -c "$conf" wait-connect r0
waits=$last
await 5 "it waits for the daemon" asks_daemon "$waits"
kill_node alice
await 10 "a command whose daemon dies ends" gone "$waits"
grep -q '^0: the daemon closed the connection$' "$work/waits.out" || fail "it says: $(cat "$work/waits.out")"

if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null && mount -t tmpfs -o size=64k,mode=755 none "$work/alice/run" 2>/dev/null; then
    unmount() { umount -l "$work/alice/run" 2>/dev/null; }
    cleanup_fn unmount
    say "the run directory is full"
    silent alice up r0
    silent alice primary --force r0
    fill() {
        local n=0
        while head -c 4096 /dev/zero >"$work/alice/run/ballast.$n" 2>/dev/null; do n=$((n + 1)); done
    }
    fill
    silent alice secondary r0
    # The log has the rest of its last page.
    await 5 "the log says so" has_line 'can not write the status file, which shows an old state: .*No space left on device' "$work/alice/run/r0.log"
    equal Secondary/Unknown alice role r0
    rm "$work/alice/run"/ballast*
    await 5 "the status file follows again" grep -q ' ro:Secondary/Unknown ' "$work/alice/run/proc/drbd"
    silent alice down r0
    rm -f "$work/alice/run/r0.settings"
    fill
    one_line_first 1 'r0: .*/r0.settings: No space left on device' alice up r0
    [ ! -e "$work/alice/run/r0.settings.new" ] || fail "a half file is left"
    rm -f "$work/alice/run"/ballast*
    silent alice up r0

    say "somebody else's commands"
    chmod 755 "$work" "$work/alice" "$work/alice/run"
    chmod 644 "$conf"
    nobody() { on alice setpriv --reuid=65534 --regid=65534 --clear-groups "$bin/replctl" -c "$conf" "$@"; }
    if setpriv --reuid=65534 --regid=65534 --clear-groups test -x "$bin/replctl"; then
        for command in 'status' 'role r0' 'dstate r0' 'get-gi r0' 'primary r0' 'down r0' 'adjust r0' 'proc' 'sh-status'; do
            # shellcheck disable=SC2086
            refused 20 "r0.ctl: Permission denied" nobody $command
        done
        refused 1 'r0.ctl: Permission denied' nobody up r0
        # What monitors need is open to all.
        setpriv --reuid=65534 --regid=65534 --clear-groups grep -q ' cs:WFConnection ' "$work/alice/run/proc/drbd" ||
            fail "nobody can not read the status file"
    fi
    silent alice down r0
    unmount
fi
