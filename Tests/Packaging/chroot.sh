#!/usr/bin/env bash
# No init, no Swift: the package is installed, two nodes replicate over loopback, the package refuses to go while a
# client is there, and goes without leaving anything behind.
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"

# Without what others keep for themselves. Locks of metadata have DRBD's names, which drbd-utils may be holding.
files() {
    (cd "$root" && find . -xdev \( -path ./var/log -o -path ./var/cache -o -path ./run/lock -o -path ./run/systemd \
        -o -path ./packages -o -path ./proc \) -prune -o -print) | sort
}
alice() { in_root replctl "$@"; }
bob() { in_root env REPLICA_NODE=bob REPLICA_RUN_DIR=/run/bob replctl "$@"; }

make_root
mount -t proc proc "$root/proc"
mount --bind /dev "$root/dev"
files >"$work/before.list"

say "installs"
in_root sh -c "cd /packages && $(guide install)" >"$work/install.out" 2>&1
[[ $(in_root replctl --product-version) == "replica "* ]] || fail "replctl has no version"
in_root replctl --version >"$work/version.out"
grep -qx 'DRBDADM_VERSION=8\.4\.11' "$work/version.out" || fail "not the version that cluster managers read"
[[ $(in_root replicad --version) == "replicad "* ]] || fail "replicad has no version"
for program in replctl replicad; do
    ! in_root ldd /usr/sbin/$program | grep 'not found\|swift\|stdc++' || fail "$program lacks a library"
done
for directory in run/replica var/lib/replica; do [ -d "$root/$directory" ] || fail "no /$directory"; done
[ ! -e "$root/etc/replica.conf" ] || fail "a configuration that nobody wrote"

say "manual pages, completions, sample configuration"
for page in "8 replctl" "8 replicad" "5 replica.conf"; do
    # shellcheck disable=SC2086
    in_root man -w $page >/dev/null || fail "no manual page: $page"
    # shellcheck disable=SC2086
    in_root man --warnings -E UTF-8 $page >"$work/page.text" 2>"$work/warnings.out"
    [ ! -s "$work/warnings.out" ] || fail "the page $page: $(cat "$work/warnings.out")"
    [ "$(wc -l <"$work/page.text")" -gt 50 ] || fail "the page $page is short"
done
in_root replicad --help | grep -o -e '--*[a-z]*' >"$work/options.list"
[ -s "$work/options.list" ] || fail "replicad has no options"
in_root man replicad >"$work/page.text" 2>/dev/null
while read -r option; do grep -q -e "$option\b" "$work/page.text" || fail "replicad(8) does not know $option"; done <"$work/options.list"
in_root bash -c '. /usr/share/bash-completion/bash_completion; _completion_loader replctl; complete -p replctl' >/dev/null ||
    fail "no completion"
in_root env REPLICA_NODE=carol replctl -c /usr/share/doc/replica/examples/replica.conf dump >"$work/dump.out" 2>&1
grep -q '^resource r0 ' "$work/dump.out" || fail "the sample configuration has no resource"

say "units"
for unit in replica@r0.service replica.target replica-wait.service; do
    in_root systemd-analyze verify --recursive-errors=no "$unit" >"$work/verify.out" 2>&1 || fail "$unit: $(cat "$work/verify.out")"
    [ ! -s "$work/verify.out" ] || fail "$unit: $(cat "$work/verify.out")"
done
in_root systemctl is-enabled replica.target >/dev/null || fail "replica.target is not enabled"
[ "$(in_root systemctl is-enabled replica-wait.service)" = disabled ] || fail "replica-wait.service is enabled"

say "two nodes"
write_configuration ""
mkdir "$root/run/bob"
for node in alice bob; do $node create-md r0 >"$work/create-md.out" 2>&1; done
alice up r0
bob up r0
alice wait-connect r0
alice primary --force r0
alice wait-sync r0
[ "$(alice dstate r0)" = UpToDate/UpToDate ] || fail "$(alice dstate r0)"
grep -q ' 0: cs:Connected ro:Primary/Secondary ' "$root/run/replica/proc/drbd" || fail "the status text: $(cat "$root/run/replica/proc/drbd")"

say "for cluster managers, boot and monitors"
if [ ! -e /proc/drbd ]; then
    in_root env LD_PRELOAD=/usr/lib/replica/libreplica-proc.so cat /proc/drbd >"$work/status.out" || fail "nothing is found as /proc/drbd"
    cmp -s "$work/status.out" "$root/run/replica/proc/drbd" || fail "as /proc/drbd is found: $(cat "$work/status.out")"
fi
in_root ldd /usr/lib/replica/libreplica-proc.so >"$work/ldd.out"
[ "$(grep -c '=> ' "$work/ldd.out")" = 1 ] || fail "the library needs others: $(cat "$work/ldd.out")"
[ "$(in_root /etc/ha.d/resource.d/replicadisk r0 status)" = 'running (Primary)' ] || fail "Heartbeat's script"
in_root /usr/share/replica/init/replica status | grep -q '^0:r0 ' || fail "the init script"
[ -x "$root/usr/lib/ocf/resource.d/replica/replica" ] || fail "no resource agent"
for example in replica.crm collectd.conf replica-node-exporter.service multipath.conf; do
    [ -s "$root/usr/share/doc/replica/examples/$example" ] || fail "no example $example"
done
grep -q '^Environment=LD_PRELOAD=/usr/lib/replica/libreplica-proc.so$' "$root/usr/share/doc/replica/examples/collectd.conf" ||
    fail "collectd would not find the library"

say "DRBD's names"
in_root dpkg -i /packages/"$(cd "$packages" && echo replica-drbd-names_*.deb)" >"$work/names.out" 2>&1
[ "$(in_root drbdadm role r0)" = Primary/Secondary ] || fail "drbdadm"
[ "$(in_root drbdsetup cstate 0)" = Connected ] || fail "drbdsetup"
in_root drbdmeta 0 v08 /srv/alice.img internal dump-md >/dev/null 2>"$work/drbdmeta.out" && fail "drbdmeta reads a disk in use"
in_root man -w drbdadm >/dev/null || fail "no manual page: drbdadm"
for name in drbddisk drbdisk; do
    [ "$(in_root /etc/ha.d/resource.d/$name r0 status)" = 'running (Primary)' ] || fail "Heartbeat's script as $name"
done
in_root dpkg -P replica-drbd-names >"$work/names.out" 2>&1

say "does not go while a client is there"
mkfifo "$work/commands"
ln -s "$root/run/replica" /tmp/replica-packaging.$$
qemu-io -f raw "nbd+unix:///r0?socket=/tmp/replica-packaging.$$/r0.nbd" <"$work/commands" >"$work/client.out" 2>&1 &
client=$!
exec 9>"$work/commands"
echo "write -P 7 0 1M" >&9
await 10 "the client writes" grep -q '1 MiB' "$work/client.out"
rm /tmp/replica-packaging.$$
if in_root dpkg -r replica >"$work/remove.out" 2>&1; then fail "it went"; fi
grep -q 'replica is not removed: resource r0 did not go down' "$work/remove.out" || fail "it does not say why: $(cat "$work/remove.out")"
[ "$(alice role r0)" = Primary/Secondary ] || fail "the device was taken from its client"
echo "read -P 7 0 1M" >&9
exec 9>&-
wait "$client"
[ "$(grep -c '1 MiB' "$work/client.out")" = 2 ] || fail "the client: $(cat "$work/client.out")"

say "goes"
bob down r0
rm -r "$root/run/bob"
in_root dpkg -r replica >"$work/remove.out" 2>&1
await 5 "no process is left: $(ours_running)" nothing_runs
[ ! -e "$root/run/replica" ] || fail "left in /run: $(ls "$root/run/replica")"
in_root dpkg -P replica >"$work/purge.out" 2>&1
rm -r "$root/etc/replica.conf" "$root"/srv/*.img
files >"$work/after.list"
diff "$work/before.list" "$work/after.list" >"$work/left.out" || fail "left behind, or taken along: $(cat "$work/left.out")"
say "nothing is left"
