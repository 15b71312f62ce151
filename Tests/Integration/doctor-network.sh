#!/usr/bin/env bash
# The doctor and the network between the nodes: no host, no route, no answer, a peer that takes us for a stranger; and a port at
# which it knocks without harm.
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
requires root netns ping ss

net() { ip -n "${namespace_of[$1]}" "${@:2}"; }
nowhere='peer-\(silent\|unreachable\)'

networks
pair 32M
healthy

say "the cable is out"
unplug
diagnosed alice 1 "$nowhere" 'runs on alice alone'
plug
healthy

say "what is sent to the port is lost on the way"
net alice neighbour replace 10.77.0.2 lladdr 02:00:00:00:00:01 dev "ra$$" nud permanent
diagnosed alice 1 peer-silent "TCP port $port"
net alice neighbour del 10.77.0.2 dev "ra$$"
healthy

say "this host's own card is down"
net alice link set "ra$$" down
diagnosed alice 1 no-route
net alice link set "ra$$" up
treated no-route
healthy

say "this host has lost its address"
net alice address del 10.77.0.1/24 dev "ra$$"
diagnosed alice 1 own-address 'own address 10.77.0.1'
net alice address add 10.77.0.1/24 dev "ra$$"
treated own-address
healthy

say "a knock at the port of a peer that waits does no harm"
alice disconnect r0
await 20 "bob waits" connection_is bob WFConnection
lines=$(wc -l <"$(log_of bob)")
for ((n = 0; n < 20; n++)); do found alice 1 disconnected || fail "not disconnected: $(cat "$work/found.out")"; done
[ "$(wc -l <"$(log_of bob)")" = "$lines" ] || fail "bob notes it: $(tail -n 3 "$(log_of bob)")"
treated disconnected
healthy

say "the peer waits for somebody else"
alice disconnect r0
bob disconnect r0
sed "s/10.77.0.1:/10.77.0.9:/" "$conf" >"$work/wrong.conf"
chmod 600 "$work/wrong.conf"
on bob "$bin/replctl" -c "$work/wrong.conf" connect r0
alice connect r0
diagnosed alice 1 connecting
await 60 "it is more than a moment" found alice 1 peer-listens
bob disconnect r0
bob connect r0
healthy
