#!/usr/bin/env bash
# Disconnect, write, reconnect: exactly what is dirty travels, announced by a compressed bitmap and by a plain one.
# directions: kernel ours
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"

both_fresh "protocol C;"
io "$one" "write -P 1 0 40M" flush
for form in RLE plain; do
    for first in "$one" "$two"; do
        part "$first"
        [ $form = RLE ] || both_conf "use-rle no;"
        io "$one" "write -P $((RANDOM % 255 + 1)) 0 8k" "write -P 3 1M 512" "write -P 4 4098k 4k" "write -P 5 9M 300k" "discard 20M 1M" flush ||
            fail "writing apart: $(cat "$work/io.out")"
        load "$one" --rw=randwrite --io_size=4M --randrepeat=0 || fail "fio: $(tail -n 3 "$work/fio.out")"
        dirty=$(counter "$one" oos)
        "$first" adjust r0
        # The other one has the option too, from now on.
        "$(other "$first")" adjust r0
        settled
        [ "$(to_sync)" = "$dirty" ] || fail "$(to_sync) KiB were synchronised, $dirty KiB were dirty"
        same "after $dirty KiB, $first came back"
    done
    # It tells of a bitmap only if that was smaller than a plain one.
    if [ $form = RLE ]; then
        kernel_says 'receive bitmap stats .*RLE [1-9]' || fail "the kernel got no compressed bitmap"
        kernel_says 'send bitmap stats .*RLE [1-9]' || fail "the kernel sent no compressed bitmap"
    else
        ! kernel_says 'bitmap stats' || fail "a bitmap was compressed"
    fi
    guest dmesg -C
done
