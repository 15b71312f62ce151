# shellcheck shell=bash
# What the scenarios share. They run as the first process of their namespaces, with `work` (a directory), `packages`
# (the built ones), `base` (a clean Debian) and `group` (a control group) in the environment; what they start and mount
# ends with them.
set -euo pipefail
: "${work:?started by run}" "${packages:?}" "${base:?}" "${group=}"
root=$work/root
failed_because=''
trap 'failed_because="line $LINENO: $BASH_COMMAND"' ERR
set -E

evidence() {
    local status=$?
    trap - EXIT ERR
    set +e
    if [ "$status" != 0 ]; then
        echo "broke with status $status${failed_because:+ ($failed_because)}"
        if declare -F there >/dev/null && [ -n "${init:-}" ]; then
            there systemctl status --no-pager --full replica@r0 replica.target replica-wait | tail -n 40
            there journalctl --no-pager -n 15
            there tail -n 20 /run/replica/r0.log
        fi
        for file in "$work"/*.out "$root"/run/replica/*.log; do
            [ -s "$file" ] || continue
            echo "--- $file"
            tail -n 20 "$file"
        done
    fi >&2
    exit "$status"
}
trap evidence EXIT

# guide STEP: the commands of that step of the administrator's guide, one a line
guide() {
    local commands
    commands=$(sed -n "/^\`\`\`sh package $1\$/,/^\`\`\`\$/{/^\`/d;p}" "$(dirname "${BASH_SOURCE[0]}")/../../docs/guide.md")
    [ -n "$commands" ] || fail "the guide has no step $1"
    echo "$commands"
}
say() { printf '%s\n' "$*"; }
fail() {
    failed_because=''
    echo "$*" >&2
    exit 1
}
# await SECONDS WHAT COMMAND...
await() {
    local deadline=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $deadline ] || fail "not in time: $what"
        sleep 0.05
    done
}

# The clean Debian, to be written on without a trace in it.
make_root() {
    mount --make-rprivate /
    mkdir -p "$work/upper" "$work/scratch" "$root"
    mount -t overlay overlay -o "lowerdir=$base,upperdir=$work/upper,workdir=$work/scratch" "$root"
    mkdir "$root/packages"
    cp "$packages"/*.deb "$root/packages/"
    hostname alice
    echo alice >"$root/etc/hostname"
    ip link set lo up
}
# in_root COMMAND...: there, without an init.
in_root() {
    env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive TERM=dumb \
        chroot "$root" "$@"
}
# write_configuration STARTUP-OPTIONS: two nodes on this machine's loopback
write_configuration() {
    mkdir -p "$root/srv"
    cat >"$root/etc/replica.conf" <<CONF
global { usage-count no; }
resource r0 {
    net { protocol C; cram-hmac-alg sha256; shared-secret "himitu"; }
    disk { c-plan-ahead 0; resync-rate 100M; }
    startup { $1 }
    device /dev/drbd0;
    meta-disk internal;
    on alice { disk /srv/alice.img; address 127.0.0.1:7788; }
    on bob { disk /srv/bob.img; address 127.0.0.2:7788; }
}
CONF
    chmod 600 "$root/etc/replica.conf"
    truncate -s 64M "$root/srv/alice.img" "$root/srv/bob.img"
}
# All our programs that run in these namespaces.
ours_running() {
    local process
    for process in /proc/[0-9]*; do
        case $(readlink "$process/exe" 2>/dev/null) in
        */replicad* | */replctl*) echo "${process#/proc/}" ;;
        esac
    done
}
nothing_runs() { [ -z "$(ours_running)" ]; }
