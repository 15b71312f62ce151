#!/usr/bin/env bash
# What passes between the nodes, as lines and as a capture: Wireshark's own dissector and our `decode` find a packet in
# every byte of it. Then superblock and activity log in words.
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
requires root netns nbd qemu-io tshark

networks
nodes_with 64M
for node in "${nodes[@]}"; do "$node" create-md r0 >"$work/create-md.out" 2>&1; done
alice up r0
# From before the first connection on.
background trace alice trace r0 --pcap "$work/trace.pcap"
tracer=$last
background lines alice trace r0
liner=$last
await 10 "a capture file" test -s "$work/trace.pcap"
await 10 "the lines are asked for" asks_daemon "$liner"
bob up r0
await 20 "connected" connection_is alice Connected
alice primary --force r0
settled
qemu-io -f raw -d unmap -c "write -P 1 0 1M" -c "write -P 2 100k 4k" -c flush -c "discard 2M 1M" -c "read 0 64k" "$(uri alice)" >"$work/io.out"
alice disconnect r0
qemu-io -f raw -c "write -P 3 8M 64k" "$(uri alice)" >>"$work/io.out"
alice connect r0
settled
bob disconnect r0
bob connect r0
settled
for last in "$liner" "$tracer"; do
    kill_tree "$last"
    await 10 "the end of a trace" gone "$last"
done

say "lines"
for packet in P_INITIAL_DATA P_CONNECTION_FEATURES P_PROTOCOL P_SIZES P_UUIDS P_STATE P_DATA P_WRITE_ACK P_BARRIER P_BARRIER_ACK P_RS_DATA_REQUEST; do
    has_line "sent.* $packet\|rcvd.* $packet" "$work/lines.out" || fail "no $packet was shown"
done
has_line '^[0-9:.]* sent data P_DATA vol 0 sector 0 size' "$work/lines.out" || fail "the first write is not shown"

say "capture"
alice decode "$work/trace.pcap" >"$work/decoded.out" 2>"$work/decode.err" || fail "decode: $(cat "$work/decode.err")"
# The kinds of packets, how often each, are the same in both.
sed 's/.* \(P_[A-Z_0-9]*\).*/\1/' "$work/decoded.out" | sort | uniq -c >"$work/decoded.kinds"
sed 's/.* \(P_[A-Z_0-9]*\).*/\1/' "$work/lines.out" | sort | uniq -c >"$work/lines.kinds"
grep -v P_PING "$work/decoded.kinds" >"$work/left"
grep -v P_PING "$work/lines.kinds" >"$work/right"
diff "$work/left" "$work/right" || fail "lines and capture differ"
tshark -r "$work/trace.pcap" --enable-heuristic drbd_tcp -o tcp.check_checksum:TRUE -T fields -e _ws.col.Protocol -e _ws.malformed -e tcp.checksum.status \
    -e drbd.command >"$work/tshark.out" 2>"$work/tshark.err" || fail "tshark: $(cat "$work/tshark.err")"
! grep -i malformed "$work/tshark.out" || fail "a malformed packet"
[ -z "$(cut -f 3 "$work/tshark.out" | grep -v '^1$' | head -n 1)" ] || fail "a segment with a wrong checksum"
seen=$(cut -f 4 "$work/tshark.out" | tr ',' '\n' | grep -c .)
ours=$(grep -c P_ "$work/decoded.out")
[ "$seen" = "$ours" ] || fail "tshark finds $seen packets, we find $ours"
say "$seen packets"

say "metadata"
alice decode "$work/alice/disk.img" >"$work/image.out" || fail "decode of an image in use: $?"
has_line '^superblock v08 at byte .*unclean' "$work/image.out" || fail "no superblock"
has_line '^hot: ' "$work/image.out" || fail "no activity log"
head -c 4096 /dev/zero >"$work/nothing"
refused 20 'nothing: neither a capture nor metadata nor an activity log' alice decode "$work/nothing"
refused 20 'missing: No such file' alice decode "$work/missing"
refused 1 'no file named' alice decode
bob down r0
refused 20 'r0: no daemon runs' bob trace r0
refused 20 'nowhere/x: No such file' alice trace r0 --pcap nowhere/x
