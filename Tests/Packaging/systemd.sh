#!/usr/bin/env bash
# systemd is the first process of a machine that has the package: resources come up at boot, a daemon that is killed
# comes back, one that is told to go does not, and the package is removed under it.
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
[ -n "$group" ] || fail "no hierarchy of control groups for systemd"

# In namespaces of its own: as a container, so with nothing of this machine that could be written to.
# shellcheck disable=SC2016
boot='
set -e
cd "$1"
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,ro,bind proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs dev
for node in null zero full random urandom tty; do touch dev/$node; mount --bind /dev/$node dev/$node; done
touch dev/console; mount --bind "$2" dev/console
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs tmpfs tmp
pivot_root . mnt
cd /
umount -l /mnt
exec env -i container=packaging PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd </dev/null
'
there() { nsenter -t "$init" --all --root --wd env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 TERM=dumb DEBIAN_FRONTEND=noninteractive "$@"; }
property() { there systemctl show -p "$1" --value "${2:-replica@r0.service}"; }
daemon() { there cat /run/replica/r0.pid; }
active() { [ "$(property ActiveState)" = active ] && [ "$(there replctl cstate r0)" = WFConnection ]; }
inactive() { [ "$(property ActiveState)" = inactive ]; }
deaths_told() { [ "$(there grep -c 'is gone without a word' /run/replica/r0.log)" = "$1" ]; }

make_root
mount -t proc proc "$root/proc"
in_root dpkg -i /packages/"$(cd "$packages" && echo replica_*.deb)" >"$work/install.out" 2>&1
write_configuration "wfc-timeout 2; become-primary-on alice;"
in_root replctl create-md r0 >"$work/create-md.out" 2>&1
in_root sh -c "$(guide enable)" >"$work/enable.out" 2>&1
in_root systemctl mask console-getty >>"$work/enable.out" 2>&1
umount "$root/proc"
: >"$work/console.out"

say "boots"
echo $$ >"$group/cgroup.procs"
unshare --cgroup --mount --pid --fork --kill-child sh -c "$boot" boot "$root" "$work/console.out" 9>&- &
starter=$!
child() { init=$(cat "/proc/$starter/task/$starter/children") && init=${init%% *} && [ "$(cat "/proc/$init/comm")" = systemd ]; }
await 20 "systemd runs" child
await 60 "systemd answers" there systemctl show-environment
await 60 "r0 is up" active
[ "$(property ActiveState replica.target)" = active ] || fail "replica.target is $(property ActiveState replica.target)"
[ "$(property MainPID)" = "$(daemon)" ] || fail "systemd watches another process"
there cat "/proc/$(daemon)/status" >"$work/status.out"
grep -q '^VmLck:[[:space:]]*[1-9]' "$work/status.out" || fail "its memory is not locked: $(grep VmLck "$work/status.out")"
# Where root may do that (CAP_SYS_RESOURCE).
if (echo -1000 >/proc/self/oom_score_adj) 2>/dev/null; then
    [ "$(there cat "/proc/$(daemon)/oom_score_adj")" = -1000 ] || fail "the kernel may kill it for its memory"
fi

say "is killed, and comes back"
pauses=()
for ((death = 1; death <= 10; death++)); do
    victim=$(daemon)
    begin=${EPOCHREALTIME/./}
    there kill -9 "$victim"
    back() { [ "$(daemon)" != "$victim" ] && active; }
    await 20 "a new daemon serves after death $death" back
    pauses+=($(((${EPOCHREALTIME/./} - begin) / 1000)))
done
deaths=$((death - 1))
[ "$(property NRestarts)" = $deaths ] || fail "$(property NRestarts) starts for $deaths deaths"
await 5 "each death is in the log" deaths_told $deaths
there cat /run/replica/proc/drbd >"$work/proc.out"
grep -q '^ 0: cs:WFConnection ' "$work/proc.out" || fail "the status text: $(cat "$work/proc.out")"
say "$deaths times, after $(printf '%s\n' "${pauses[@]}" | sort -n | sed -n "$(((deaths + 1) / 2))p") ms (median), $(printf '%s\n' "${pauses[@]}" | sort -n | tail -n 1) ms at worst"

say "hands over to a program that was installed over its own"
there sh -c 'cp /usr/sbin/replicad /usr/sbin/replicad.new && mv /usr/sbin/replicad.new /usr/sbin/replicad'
before=$(daemon)
there replctl upgrade r0 >"$work/upgrade.out" 2>&1 || fail "upgrade: $(cat "$work/upgrade.out")"
active || fail "the unit is $(property ActiveState), r0 $(there replctl cstate r0)"
[ "$(property MainPID)/$(daemon)" = "$before/$before" ] || fail "another process than $before: $(property MainPID), $(daemon)"
[ "$(property NRestarts)" = $deaths ] || fail "systemd has restarted it"
case $(there readlink "/proc/$before/exe") in *deleted*) fail "it is the program of before" ;; esac
deaths_told $deaths || fail "somebody takes it for a death"

say "a disk that is not there is no reason to give up"
there mv /srv/alice.img /srv/away.img
there systemctl restart replica@r0
[ "$(property ActiveState)" = active ] || fail "the unit is $(property ActiveState)"
[ "$(there replctl dstate r0)" = Unconfigured ] || fail "its disk is $(there replctl dstate r0)"
there mv /srv/away.img /srv/alice.img
there systemctl reload replica@r0
await 20 "r0 is up" active
[ "$(there replctl dstate r0)" = Inconsistent/DUnknown ] || fail "its disk is $(there replctl dstate r0)"

say "waits for its peer, for a moment"
there replctl primary --force r0
there replctl secondary r0
there systemctl start replica-wait.service
[ "$(there replctl role r0)" = Primary/Unknown ] || fail "become-primary-on: $(there replctl role r0)"

say "is told to go, and stays away"
there replctl down r0
await 10 "the unit is inactive" inactive
sleep 1
inactive || fail "the unit is $(property ActiveState)"
nothing_runs || fail "somebody is back: $(ours_running)"
there replctl up r0
by_hand=$(daemon)
there systemctl start replica@r0
await 20 "r0 is up" active
[ "$(property MainPID)" = "$by_hand" ] || fail "systemd watches another process"
there systemctl stop replica@r0
nothing_runs || fail "left by systemctl stop: $(ours_running)"
there systemctl start replica@r0
await 20 "r0 is up" active

say "is removed"
there dpkg -r replica >"$work/remove.out" 2>&1
await 10 "no process is left: $(ours_running)" nothing_runs
[ -z "$(there systemctl list-units --all --plain --no-legend 'replica*' | grep -v not-found || true)" ] ||
    fail "units: $(there systemctl list-units --all 'replica*')"
[ -z "$(there systemctl list-units --failed --plain --no-legend 'replica*')" ] || fail "failed: $(there systemctl list-units --failed)"
there dpkg -P replica >"$work/purge.out" 2>&1
for path in /run/replica /var/lib/replica /etc/systemd/system/replica.target.wants; do
    ! there test -e $path || fail "left: $path"
done
say "nothing is left"
