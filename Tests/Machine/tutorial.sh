#!/usr/bin/env bash
# What tutorials of DRBD 8.4 have their reader type, word for word, with a configuration such as they show: create-md, up, the first
# full sync, a file system and its move to the other node, and two split brains that are recovered by hand, in the words of 8.4 and of
# 8.3. Only /proc/drbd is /run/replica/proc/drbd.
# directions: ext3
# seconds: 600
# shellcheck disable=SC2016
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"

# does NODE COMMANDLINE: as its administrator would type it
does() {
    say "$1# $2"
    at "$1" -t 200 sh -c "$2" >"$work/typed.out" 2>&1 || fail "'$2' on $1 ends with $?: $(cat "$work/typed.out")"
}
# answers_yes NODE COMMAND: on a terminal, where it asks
answers_yes() {
    say "$1# $2"
    # shellcheck disable=SC2086
    at "$1" "$here/terminal.py" "$work/terminal" '0.5=yes\n' $2
    tr -d '\r' <"$work/terminal.screen" >"$work/typed.out"
    grep '^0 ' "$work/terminal.end" >"$work/end.out" || fail "'$2' on $1 ends with $(cat "$work/terminal.end"): $(cat "$work/typed.out")"
}
shows() { grep -e "$1" "$work/typed.out" >/dev/null || fail "it does not show '$1' but: $(cat "$work/typed.out")"; }
shown() { at "$1" cat /run/replica/proc/drbd | grep -e "$2" >/dev/null; }

write_conf
for node in alice bob; do fresh_node $node; done
cat >"$work/drbd.conf" <<'CONF'
global { usage-count no; }
common { syncer { rate 100M; } }
resource r0 {
        protocol C;
        startup {
                wfc-timeout  15;
                degr-wfc-timeout 60;
        }
        net {
                cram-hmac-alg sha1;
                shared-secret "secret";
        }
        on alice {
                device /dev/drbd0;
                disk /dev/vg/r0;
                address 10.77.0.11:7788;
                meta-disk internal;
        }
        on bob {
                device /dev/drbd0;
                disk /dev/vg/r0;
                address 10.77.0.12:7788;
                meta-disk internal;
        }
}
CONF
conf=/etc/drbd.conf
for node in alice bob; do
    at $node sh -c "cp '$work/drbd.conf' /etc/drbd.conf && for name in drbdadm drbdsetup drbdmeta; do ln -sf '$bin/replctl' /usr/local/sbin/\$name; done"
    answers_yes $node "drbdadm create-md r0"
    shows "need to type 'yes' to confirm"
    shows 'successfully created'
done
for node in alice bob; do does $node "drbdadm up r0"; done
await 30 "they meet" shown alice ' 0: cs:Connected ro:Secondary/Secondary ds:Inconsistent/Inconsistent C r'
refused 17 'Need access to UpToDate data' at alice drbdadm primary r0
does alice "drbdadm -- --overwrite-data-of-peer primary r0"
await 20 "the sync is seen" shown alice ' 0: cs:SyncSource ro:Primary/Secondary ds:UpToDate/Inconsistent C r'
await 20 "its progress is seen" shown bob "sync'ed: *[0-9.]*%"
await 20 "and when it will end" shown bob 'finish: [0-9:]* speed: [0-9,]* '
await 120 "the sync ends" shown bob ' 0: cs:Connected ro:Secondary/Primary ds:UpToDate/UpToDate C r'

does alice "mkfs -t ext3 /dev/drbd0"
does alice "mkdir -p /srv && mount /dev/drbd0 /srv && cp -r /etc/default /srv"
# control.md item 49
does alice "mount"
shows '^/dev/drbd0 on /srv type ext3'
does alice "umount /srv"
does alice "drbdadm secondary r0"
does bob "drbdadm primary r0"
does bob "mkdir -p /srv && mount /dev/drbd0 /srv && ls /srv/default && diff -r /etc/default /srv/default"
does bob "drbdadm role r0 && drbdadm cstate r0 && drbdadm dstate r0"
shows '^Primary/Secondary$'
does bob "umount /srv && drbdadm secondary r0"
does alice "drbdadm primary r0 && mount /dev/drbd0 /srv"

# apart: each is Primary for a while and writes a file of its own, and when they see each other again they do not like it.
apart() {
    local node
    say "the cable is cut"
    "$vm" net cut "$network" bob
    for node in alice bob; do await 40 "$node is alone" shown $node ' 0: cs:WFConnection '; done
    does alice "echo of alice >/srv/alice && sync"
    does bob "drbdadm primary r0 && mount /dev/drbd0 /srv && echo of bob >/srv/bob && umount /srv"
    does alice "umount /srv"
    say "and mended"
    "$vm" net heal "$network" bob
    for node in alice bob; do
        await 40 "$node has noticed" says $node 'Split-Brain detected'
        await 10 "$node is alone" shown $node ' 0: cs:\(StandAlone\|WFConnection\) ro:Primary/Unknown ds:UpToDate/DUnknown '
    done
    # 8.4's words; 8.3 left out "but unresolved".
    says alice 'Split-Brain detected but unresolved, dropping connection!' || says bob 'Split-Brain detected but unresolved, dropping connection!' ||
        fail "nobody says so"
    shown alice ' cs:StandAlone ' || shown bob ' cs:StandAlone ' || fail "they try it again"
}
# one_life NODE OTHER: that node's file is there, and the other's is not
one_life() {
    for node in alice bob; do
        does $node "drbdadm primary r0 && mount /dev/drbd0 /srv"
        equal "of $1" at $node cat "/srv/$1"
        ! at $node test -e "/srv/$2" || fail "$node has the file of $2"
        does $node "umount /srv && drbdadm secondary r0"
    done
}

apart
does bob "drbdadm secondary r0"
does bob "drbdadm disconnect r0"
does bob "drbdadm connect --discard-my-data r0"
does alice "drbdadm connect r0"
settled
does alice "drbdadm secondary r0"
one_life alice bob
same "what bob had is gone"

does alice "drbdadm primary r0 && mount /dev/drbd0 /srv && rm /srv/alice && sync"
for node in alice bob; do at $node sh -c ': >/run/replica/r0.log'; done
apart
does alice "drbdadm secondary r0"
does alice "drbdadm disconnect r0"
does alice "drbdadm -- --discard-my-data connect r0"
does bob "drbdadm connect r0"
settled
does bob "drbdadm secondary r0"
one_life bob alice
same "what alice had is gone"
for node in alice bob; do does $node "drbdadm down r0"; done
no_troubles
