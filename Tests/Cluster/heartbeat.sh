#!/usr/bin/env bash
# Real Heartbeat 3 on two nodes in namespaces, with a tutorial's line in haresources: a node without power, the give-back when it returns,
# also in the middle of a resync, switch-over by hand, a killed daemon. An application that remembers every answered write judges.
# shellcheck disable=SC2016,SC2119
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
programs=/usr/share/heartbeat
requires root netns nbd ping ifconfig
heartbeat=
for place in /usr/libexec/heartbeat/heartbeat /usr/lib/heartbeat/heartbeat; do [ ! -x $place ] || heartbeat=$place; done
[ -n "$heartbeat" ] || skip "no Heartbeat (package heartbeat)"

# configure_heartbeat NODE: there is no kernel device here, so `application`, which uses the NBD socket, stands where a tutorial has
# Filesystem::/dev/drbd0::/srv/data::ext3 and what uses that.
configure_heartbeat() {
    on "$1" bash -euc '
        cat >/etc/ha.d/ha.cf <<CONF
logfile /var/log/ha-log
debugfile /var/log/ha-debug
keepalive 1
warntime 2
deadtime 4
initdead 10
bcast eth0
bcast eth1
auto_failback on
node alice bob
crm no
CONF
        printf "auth 1\n1 sha1 between-the-two\n" >/etc/ha.d/authkeys
        chmod 600 /etc/ha.d/authkeys
        echo "alice IPaddr::$1/24/eth0 drbddisk::r0 application" >/etc/ha.d/haresources
        cat >/etc/ha.d/resource.d/application <<SCRIPT
#!/bin/sh
# Heartbeat asks for a word, the other one for a code.
export OCF_ROOT=/usr/lib/ocf OCF_RESKEY_directory=$2 OCF_RESKEY_writer=$3
agent=/usr/lib/ocf/resource.d/replica/application
case \$1 in
    status)
        if \$agent monitor; then echo running; else echo stopped; fi ;;
    start)
        echo "\$(hostname) \$(replctl dstate r0)" >>$2/states
        exec \$agent start ;;
    *) exec \$agent "\$1" ;;
esac
SCRIPT
        chmod 755 /etc/ha.d/resource.d/application
    ' - "$service_address" "$work" "$writer"
}
# heartbeat_up NODE [COMMAND...]: Heartbeat, after that command; the directories are those of tmpfiles.d. Does not wait.
heartbeat_up() {
    background "heartbeat-$1" nsenter -t "${first_of[$1]}" -a --wd=/ -- sh -ec '
        install -d -m 750 -o hacluster -g haclient /run/heartbeat /run/heartbeat/ccm /run/heartbeat/dopd
        mkdir -p /run/resource-agents
        heartbeat=$1
        shift
        "$@"
        exec "$heartbeat" -f' - $heartbeat "${@:2}"
}
# boot NODE: what its init does
boot() { heartbeat_up "$1" /usr/local/share/replica/init/replica start; }
# answers_from NODE: a client finds the address there
answers_from() {
    local card
    card=$(on "$1" ip -o link show dev eth0 | sed 's,.*link/ether \([^ ]*\) .*,\1,')
    on switch ping -c 1 -W 1 "$service_address" && on switch ip neighbor show "$service_address" | grep -q "$card"
}
has_it() {
    at_work "$1" "${2:-60}"
    role_is "$1" Primary || fail "$1 is $(role "$1")"
    await 10 "the address answers from $1" answers_from "$1"
    if is_on "$(other "$1")" && address_is_on "$(other "$1")"; then fail "the address is on both"; fi
}

# resync_rate KIBIBYTES: of both, from now on
resync_rate() {
    write_conf "" "resync-rate $1;"
    local node
    for node in alice bob; do
        ! is_on $node || { on $node cp "$conf" /etc/drbd.conf && on $node replctl adjust r0; } || fail "$node does not take the rate"
    done
}
not_at_work() { ! application_on "$1"; }
no_address() { ! address_is_on "$1"; }
refuses_drbddisk() { on "$1" grep -q 'Return code 1 from .*drbddisk' /var/log/ha-log; }
refusals() { for node in alice bob; do on $node cat /var/log/ha-log; done | grep -c 'Return code 1 from .*drbddisk' || true; }
# Alice asks, again where nothing comes of it: Heartbeat ignores who asks while it still is at the end of another transition
# ("Ignored standby message"). Where drbddisk is why nothing comes of it, that is ours.
asks_until() {
    local before
    before=$(refusals)
    for _ in 1 2 3; do
        on alice "$programs/$1" 2>/dev/null
        if within 20 application_on "$2"; then break; fi
        [ "$(refusals)" = "$before" ] || fail "drbddisk has refused what $1 asked for"
    done
    has_it "$2"
    [ "$(refusals)" = "$before" ] || fail "drbddisk has refused what $1 asked for"
}

# So large that the application does not write all of it before a resync has come far.
nodes_on 256M
for node in alice bob; do
    installed $node
    configure_heartbeat $node
done
on switch ip address add 10.77.0.200/24 dev br0
for node in alice bob; do boot $node; done
has_it alice
in_sync
say "at work on alice, $SECONDS s after the start"

say "the Primary's power is cut; what it had is given back when it returns"
power_off alice
has_it bob
power_on alice
boot alice
has_it alice
in_sync

say "by hand"
asks_until hb_standby bob
asks_until hb_takeover alice
in_sync

say "the Primary's power is cut; it is given back what it has not got yet"
power_off alice
has_it bob
resync_rate 2048
power_on alice
boot alice
has_it alice
tail -n 1 "$work/states" | grep -q '^alice Inconsistent/UpToDate' || fail "the states were: $(cat "$work/states")"
resync_rate 4194304
in_sync

say "the daemon of the Primary is killed"
# Heartbeat asks nobody how he is: the application ends with its connection, and all stays where it is until somebody says a word.
on alice sh -c 'kill -9 $(cat /run/replica/r0.pid)'
await 20 "the application has lost its device" not_at_work alice
if within 6 application_on bob; then fail "Heartbeat has noticed"; fi
asks_until hb_standby bob
if on alice grep -q 'Retrying failed stop' /var/log/ha-log; then fail "what nobody serves could not be stopped"; fi
on alice replctl adjust r0 >"$work/adjust.out" 2>&1
in_sync
asks_until hb_takeover alice

say "its peer dies before it has all of it: what is half there is not served"
power_off alice
has_it bob
resync_rate 1024
power_on alice
on alice /usr/local/share/replica/init/replica start >"$work/init.out" 2>&1
await 10 "a resync" connection_is alice SyncTarget
power_off bob
power_on bob
heartbeat_up alice
await 60 "drbddisk refuses" refuses_drbddisk alice
await 20 "the address is given up" no_address alice
role_is alice Secondary || fail "alice is $(role alice) with half of the data"
boot bob
await 30 "bob is back" connection_is alice 'SyncTarget|Connected'
resync_rate 4194304
in_sync
if application_on alice || application_on bob; then fail "there was nothing to serve: $(cat "$work/started")"; fi
# Heartbeat takes what it has given up for what it has: it needs a word.
asks_until hb_takeover alice
in_sync

no_split_brain
say "$(answered) answered writes; started: $(paste -sd, "$work/started")"
