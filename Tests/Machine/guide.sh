#!/usr/bin/env bash
# docs/guide.md, command by command, with the configuration that it shows: every procedure does what the text says, and the files on
# the device are there after each.
# directions: ext4
# seconds: 900
# shellcheck disable=SC2016
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
guide=$root/docs/guide.md
# All of it is copied several times, at the speed that is the default.
volume_size=96M

# install_conf PORT: what the guide shows, on both, with the addresses of these machines
install_conf() {
    sed -n '/^```conf$/,/^```$/{/^```/d;p}' "$guide" | sed "s/10\.0\.0\.1:7788/${ip_of[alice]}:$1/; s/10\.0\.0\.2:7788/${ip_of[bob]}:$1/" >"$work/guide.conf"
    grep -q "${ip_of[bob]}:$1" "$work/guide.conf" || fail "the guide shows no configuration that this knows"
    for node in alice bob; do install_on "$node"; done
}
install_on() {
    at "$1" sh -c "install -m 600 '$work/guide.conf' /etc/replica.conf && ln -sf '$bin/replctl' /usr/local/sbin/replctl" || fail "no configuration on $1"
}
shows() { grep -e "$1" "$work/typed.out" >/dev/null || fail "it does not show '$1' but: $(cat "$work/typed.out")"; }
empty_disk() { at "$1" blkdiscard -f /dev/vg/r0; }
# Each step adds a line to a file on the device; all of them are there after the next one.
lines=0
add_line() {
    lines=$((lines + 1))
    at "$1" sh -c "echo line $lines >>/srv/lines && sync -f /srv/lines"
}
lines_on() { [ "$(at "$1" sh -c 'wc -l </srv/lines')" = $lines ] || fail "$1 has not $lines lines: $(at "$1" cat /srv/lines)"; }

# MARK: What comes before a step, and what must be true after it

before_create() { for node in alice bob; do empty_disk $node; done; }
create() { await 30 "they meet" disks_are alice Inconsistent/Inconsistent; }
first_sync() {
    shows '^UpToDate/UpToDate$'
    [ "$(counter alice ns)" -gt 90000 ] || fail "only $(counter alice ns) KiB were sent"
}
before_skip_first_sync() {
    # Both, or the first one would meet what was before.
    for node in alice bob; do $node down r0; done
    for node in alice bob; do
        empty_disk $node
        $node create-md r0 >"$work/create-md.out" 2>&1
        $node up r0
    done
}
skip_first_sync() {
    settled
    [ "$(counter alice ns)" = 0 ] || fail "$(counter alice ns) KiB were sent"
}
file_system() { add_line alice; }
give_away() { role_is alice Secondary || fail "alice is $(role alice)"; }
take_over() {
    lines_on bob
    add_line bob
}
before_fail_over() {
    power_cut bob
    await 40 "alice notices" connection_is alice WFConnection
}
fail_over() {
    lines_on alice
    add_line alice
}
before_come_back() {
    boot_one bob
    install_on bob
}
come_back() {
    shows '^UpToDate/UpToDate$'
    [ "$(role bob)" = Secondary/Primary ] || fail "bob is $(role bob)"
}
before_give_up() {
    "$vm" net cut "$network" bob
    for node in alice bob; do await 40 "$node is alone" connection_is $node WFConnection; done
    add_line alice
    at bob sh -c 'replctl primary r0 && mount /dev/drbd0 /srv && echo of bob >>/srv/lines && umount /srv'
    "$vm" net heal "$network" bob
    await 40 "the split brain is noticed" says bob 'Split-Brain detected but unresolved, dropping connection!'
    at bob replctl doctor r0 >"$work/typed.out" && fail "the doctor has nothing to say"
    shows 'DANGER: split brain'
}
give_up() { role_is bob Secondary || fail "bob is $(role bob)"; }
survive() {
    settled
    lines_on alice
}
take_disk_out() {
    disks_are bob Diskless/UpToDate || fail "bob is $(dstate bob)"
    add_line alice
}
before_put_disk_in() { empty_disk bob; }
put_disk_in() { shows '^UpToDate/UpToDate$'; }
before_new_machine() {
    "$vm" kill bob
    rm "$judge/bob.img"
    boot_one bob
    install_on bob
    await 40 "alice notices" connection_is alice WFConnection
    add_line alice
}
new_machine() { shows '^UpToDate/UpToDate$'; }
before_new_address() { install_conf 7799; }
new_address() {
    settled
    at alice replctl show r0 | grep 7799 >/dev/null || fail "alice has the old address"
    add_line alice
}
before_grow_disks() { before=$(data_bytes); }
grow_disks() { :; }
grow() {
    [ "$(data_bytes)" -gt $((before + (30 << 20))) ] || fail "the device has $(data_bytes) bytes, and $before before"
    settled
}
watch() {
    shows '^r0 role:Primary$'
    shows '^ 0: cs:Connected ro:Primary/Secondary ds:UpToDate/UpToDate C r-----$'
    shows '^replica_up{resource="r0"} 1$'
    shows '^exists -$'
}
before_verify() {
    # Behind their backs: a block of bob's disk that is in no file.
    at bob dd if=/dev/urandom of=/dev/vg/r0 bs=4k count=1 seek=20000 oflag=direct conv=notrunc 2>"$work/dd.out"
}
verify() {
    await 300 "the verify ends" says alice 'Online verify found 1 4k block'
    await 10 "they are connected" connection_is alice Connected
}
repair() {
    settled
    add_line alice
}
faster() { at alice replctl show r0 | grep 'c-max-rate.*409600' >/dev/null || fail "$(at alice replctl show r0)"; }
new_version() { shows 'handed over'; }
put_away() { role_is alice Secondary || fail "alice is $(role alice)"; }
before_stop() {
    at alice sh -c 'replctl primary r0 && mount /dev/drbd0 /srv'
    lines_on alice
    at alice sh -c 'umount /srv && e2fsck -fn /dev/drbd0 && replctl secondary r0' >"$work/e2fsck.out" 2>&1 || fail "the file system: $(cat "$work/e2fsck.out")"
    same "in the end"
}
stop() { for node in alice bob; do ! at $node test -e /dev/drbd0 || fail "$node still has the device"; done; }

# MARK: The guide

write_conf
for node in alice bob; do fresh_node $node; done
install_conf 7788
conf=/etc/replica.conf
steps=0
step=
while IFS= read -r line <&3; do
    if [ -n "$step" ] && [ "$line" = '```' ]; then
        "${step//-/_}"
        say "$step holds"
        steps=$((steps + 1))
        step=
    elif [ -n "$step" ]; then
        if [ "$host" = both ]; then hosts=(alice bob); else hosts=("$host"); fi
        for node in "${hosts[@]}"; do
            say "$node# $line"
            status=0
            at "$node" -t 200 sh -c "$line" >"$work/line.out" 2>&1 </dev/null || status=$?
            cat "$work/line.out" >>"$work/typed.out"
            # The survivor of a split brain may wait already, as the guide says.
            [ "$status" = 0 ] || { [ "$step" = survive ] && grep -q '(125)' "$work/line.out"; } || fail "$node# $line: $status: $(cat "$work/line.out")"
        done
    elif [[ $line =~ ^\`\`\`sh\ (alice|bob|both)\ ([a-z-]+)$ ]]; then
        host=${BASH_REMATCH[1]} step=${BASH_REMATCH[2]}
        : >"$work/typed.out"
        declare -F "${step//-/_}" >/dev/null || fail "the guide has a step $step that nobody checks"
        if declare -F "before_${step//-/_}" >/dev/null; then "before_${step//-/_}"; fi
    elif [[ $line = '```sh '* && ! $line = '```sh package '* ]]; then
        fail "the guide has a block that this does not read: $line"
    fi
done 3<"$guide"
[ $steps = 23 ] || fail "the guide has $steps steps"
no_troubles
