#!/usr/bin/env bash
# The doctor and connections that are not there: it names the reason, and what it prescribes mends it.
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-io nbd

conf_of() { echo "$work/$1.conf"; }
alice() { on alice "$bin/replctl" -c "$work/alice.conf" "$@"; }
bob() { on bob "$bin/replctl" -c "$work/bob.conf" "$@"; }
# different NET-OPTIONS-OF-ALICE NET-OPTIONS-OF-BOB
different() {
    write_conf "$1"
    cp "$conf" "$work/alice.conf"
    write_conf "$2"
    cp "$conf" "$work/bob.conf"
}
settings() { # NET-OPTIONS-OF-BOTH
    different "$1" "$1"
}
writes() { qemu-io -f raw -c "write -q -P $2 $3 64k" -c flush "$(uri "$1")"; }
# parted ALICE BOB: settings that do not fit, and the two have found that out
parted() {
    alice disconnect r0
    bob disconnect r0
    different "$1" "$2"
    alice adjust r0
    bob adjust r0
}

nodes_with 32M
settings ''
for node in alice bob; do "$node" create-md r0 >"$work/create-md.out" 2>&1; done

say "down"
diagnosed alice 1 down 'up r0'
treated down
diagnosed alice 1 inconsistent 'never saw bob'
diagnosed alice 1 peer-not-listening 'does not listen on 127.0.0.2'
diagnosed bob 1 down
treated down

say "a fresh pair"
diagnosed alice 1 fresh-pair 'No copy\|no copy is made'
treated fresh-pair
healthy
[ "$(alice doctor r0 | head -n 1)" = 'r0: ok: r0 is in order; there is nothing to do' ] || fail "it says: $(alice doctor r0)"
alice primary r0
writes alice 1 0

say "in use"
background user "$python" -c "import nbd, time
disk = nbd.NBD()
disk.connect_uri('$(uri alice)')
time.sleep(600)"
user=$last
diagnosed alice 0 in-use "process $user"
refused 11 '(-12)' alice secondary r0
kill "$user"
await 10 "the client has gone" gone "$user"
treated in-use
role_is alice Secondary || fail "alice is $(role alice)"
alice primary r0
healthy

say "disconnected by a command"
alice disconnect r0
diagnosed bob 1 peer-not-listening 'took its leave'
diagnosed alice 1 disconnected
treated disconnected
healthy
bob disconnect r0
writes alice 2 1M
diagnosed alice 1 peer-not-listening 'runs on alice alone.*64 KiB are out of sync'
treated peer-not-listening
healthy

say "the peer's daemon is killed, and stopped"
kill_node bob
diagnosed bob 2 daemon-died
treated daemon-died
healthy
pid=$(pid_of bob)
kill -STOP "$pid"
diagnosed bob 2 daemon-stopped "kill -CONT $pid"
treated daemon-stopped
healthy

say "secrets that differ"
secret='cram-hmac-alg sha256; shared-secret'
parted "$secret \"himitu\";" "$secret \"himitsu\";"
diagnosed alice 1 wrong-secret
diagnosed bob 1 wrong-secret 'shared-secret. the same'
settings "$secret \"himitu\";"
treated wrong-secret
healthy

say "settings that differ"
for pair in 'protocol C/protocol A' 'verify-alg md5/verify-alg sha1' 'allow-two-primaries/max-buffers 2048' 'data-integrity-alg md5/data-integrity-alg crc32c' \
    'csums-alg md5/csums-alg sha1' 'after-sb-0pri discard-zero-changes/after-sb-0pri disconnect'; do
    parted "${pair%/*};" "${pair#*/};"
    option=${pair%%[ /]*}
    diagnosed alice 1 settings-differ "different settings of .$option"
    settings ''
    treated settings-differ
    healthy
done

say "two Primaries, as configured"
settings 'allow-two-primaries;'
alice adjust r0
bob adjust r0
bob primary r0
diagnosed alice 0 two-primaries
settings ''
treated two-primaries
bob secondary r0
alice adjust r0
bob adjust r0
alice primary r0
healthy

say "another version of the protocol"
bob down r0
alice disconnect r0
background elder "$here/doctor.py" peer "127.0.0.2:$port" 110 121
alice connect r0
diagnosed alice 1 version-mismatch '86 to 101'
kill_tree "$last"
await 5 "the stranger has gone" gone "$last"
bob up r0
treated version-mismatch
healthy

# split: both Primary, both with changes of their own; they have met again, and parted.
split() {
    alice disconnect r0
    bob disconnect r0
    alice primary r0
    bob primary r0
    writes alice "$1" 1M
    writes bob "$2" 2M
    alice connect r0
    bob connect r0
    await 30 "they part" connection_is alice StandAlone
}
holds() { # NODE PATTERN OFFSET
    qemu-io -f raw -c "read -q -P $2 $3 64k" "$(uri "$1")" >"$work/read.out" 2>&1 && [ ! -s "$work/read.out" ]
}
say "split brain: bob's data is kept"
split 31 32
diagnosed alice 2 split-brain 'What alice has changed since the two parted is lost by this'
grep -q "64 KiB changed since the two parted; generation $(alice get-gi r0 | cut -d : -f 1)" <(tr -s ' \n' ' ' <"$work/doctor.out") ||
    fail "not what alice has: $(cat "$work/doctor.out")"
treated split-brain 0
healthy
identical
holds bob 32 2M || fail "bob's change is lost"
bob secondary r0
alice primary r0
holds alice 32 2M || fail "alice has not got bob's change"
holds alice 31 1M && fail "alice still has hers"

say "split brain: alice's data is kept"
split 41 42
diagnosed alice 2 split-brain
treated split-brain 1
healthy
identical
holds alice 41 1M || fail "alice's change is lost"

say "unrelated data"
bob down r0
bob create-md --force r0 >"$work/create-md.out" 2>&1
alice disconnect r0
bob up r0
bob primary --force r0
bob secondary r0
alice connect r0
diagnosed alice 2 unrelated-data 'hold unrelated data'
treated unrelated-data 1
healthy
identical
holds alice 41 1M || fail "alice's data is lost"
say "each of it is mended by what the doctor says"
