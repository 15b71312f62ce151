#!/usr/bin/env bash
# PostgreSQL on the replicated device, its Primary's machine loses its power, and its disk what it had not flushed: promoted on the
# other machine the database recovers by itself, no transaction that was acknowledged outside is lost, and its books balance. CUTS=10
# does it more often.
# directions: ext4
# seconds: 1500
# shellcheck disable=SC2016
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
cuts=${CUTS:-2}
cached=2G volume_size=1200M
disk_options="al-extents 67;"
programs=$(printf '%s\n' /usr/lib/postgresql/*/bin | sort -V | tail -n 1)
[ -x "$programs/pgbench" ] || skip "no PostgreSQL (scripts/dependencies machine)"

# as NODE COMMAND...: in that machine, as the database's user
as() {
    at "$1" -t 240 setpriv --reuid=postgres --regid=postgres --clear-groups env -C / HOME=/run/pg PGHOST=/run/pg PGDATA=/mnt/r0/pg \
        PATH="$programs:/usr/bin:/bin" "${@:2}"
}
sql() { as "$1" psql -qAt -v ON_ERROR_STOP=1 -c "$2"; }
start() {
    at "$1" sh -c 'install -d -o postgres -g postgres /run/pg && rm -f /run/pg/log'
    as "$1" pg_ctl -w -t 200 -l /run/pg/log start >"$work/start.out" 2>&1 || fail "the database does not start: $(at "$1" tail -n 20 /run/pg/log)"
}
# transactions NODE NUMBER: pgbench's, and rows with numbers from that one on, of which each is acknowledged once it is committed
transactions() {
    as "$1" sh -c 'pgbench -n -c 3 -T 3600 >/run/pg/bench 2>&1 </dev/null & echo $! >/run/pg/bench.pid'
    as "$1" bash -c 'awk -v n='"$2"' "BEGIN { for (;; n++) printf \"INSERT INTO kept VALUES (%d, md5(%d::text));\n\\\\echo 0 %d\n\", n, n, n }" |
        stdbuf -oL psql -qAt -v ON_ERROR_STOP=1 >/dev/tcp/10.77.0.1/7000 2>/run/pg/rows & echo $! >/run/pg/rows.pid' >/dev/null 2>&1
}
go_on() {
    as "$1" sh -c 'kill -0 $(cat /run/pg/bench.pid) && kill -0 $(cat /run/pg/rows.pid)' ||
        fail "the transactions ended: $(as "$1" sh -c 'tail -n 3 /run/pg/bench /run/pg/rows /run/pg/log')"
}
# books NODE: nothing that was acknowledged is lost, and the sums agree
books() {
    cp "$work/journal" "$work/checked"
    chmod 644 "$work/checked"
    at "$1" cp "$work/checked" /run/pg/checked
    read -r checked wrong _ < <(as "$1" psql -qAt -F ' ' -v ON_ERROR_STOP=1 -c 'CREATE TEMP TABLE told (thread int, id bigint)' \
        -c "\\copy told from /run/pg/checked with (delimiter ' ')" \
        -c 'SELECT count(*), count(*) FILTER (WHERE sum IS DISTINCT FROM md5(id::text)), (SELECT count(*) FROM kept) FROM told LEFT JOIN kept USING (id)')
    [ "${checked:-0}" -gt 0 ] || fail "nothing was acknowledged"
    [ "$wrong" = 0 ] || fail "$wrong of $checked acknowledged transactions are lost"
    sums=$(sql "$1" 'SELECT (SELECT sum(abalance) FROM pgbench_accounts) = s AND (SELECT sum(bbalance) FROM pgbench_branches) = s AND
        (SELECT sum(tbalance) FROM pgbench_tellers) = s FROM (SELECT coalesce(sum(delta), 0) AS s FROM pgbench_history) AS h')
    [ "$sums" = t ] || fail "the books do not balance"
}

fresh_pair
cp "$(dirname "$0")/records.py" "$work/records.py"
collect
at alice mkfs.ext4 -q /dev/drbd0
at alice mount /dev/drbd0 /mnt/r0
at alice sh -c 'install -d -o postgres -g postgres /mnt/r0/pg /run/pg'
as alice initdb -k -A trust --no-locale -E UTF8 >"$work/initdb.out" 2>&1 || fail "initdb: $(tail -n 3 "$work/initdb.out")"
cat >"$work/postgresql.conf" <<'END'
fsync = on
synchronous_commit = on
full_page_writes = on
listen_addresses = ''
unix_socket_directories = '/run/pg'
shared_buffers = 32MB
max_connections = 20
checkpoint_timeout = 30s
max_wal_size = 64MB
END
at alice sh -c "cat $work/postgresql.conf >>/mnt/r0/pg/postgresql.conf && sync /mnt/r0/pg/postgresql.conf"
start alice
as alice pgbench -i -q -s 1 >"$work/pgbench.out" 2>&1 || fail "pgbench -i: $(tail -n 3 "$work/pgbench.out")"
sql alice 'CREATE TABLE kept (id bigint PRIMARY KEY, sum text NOT NULL)'
sql alice 'CREATE EXTENSION amcheck'

primary=alice longest=0
printf '%-5s %-6s %12s %10s %10s %10s %14s %9s\n' cut node transactions checked 'not there' history 'lost in cache' down/s
for ((cut = 1; cut <= cuts; cut++)); do
    survivor=$(other "$primary")
    before=$(acknowledged)
    transactions "$primary" $((cut * 1000000))
    progress 100 90
    go_on "$primary"
    power_cut "$primary"
    began=$EPOCHREALTIME
    here=$(($(acknowledged) - before)) lost=$(lost "$primary")

    await 40 "$survivor is alone" connection_is "$survivor" WFConnection
    "$survivor" primary r0
    at "$survivor" mount /dev/drbd0 /mnt/r0
    start "$survivor"
    down=$(awk "BEGIN { print $EPOCHREALTIME - $began }")
    at "$survivor" grep -q 'automatic recovery in progress' /run/pg/log || fail "the database did not recover"
    books "$survivor"
    as "$survivor" pg_amcheck --heapallindexed >"$work/amcheck.out" 2>&1 || fail "pg_amcheck: $(head -n 5 "$work/amcheck.out")"
    transactions "$survivor" $((cut * 1000000 + 500000))
    boot_one "$primary" || fail "$primary does not boot"
    "$primary" up r0 >"$work/up.out" 2>&1 || fail "$primary does not come up"
    settled
    go_on "$survivor"
    as "$survivor" sh -c 'kill $(cat /run/pg/bench.pid /run/pg/rows.pid)'
    printf '%-5s %-6s %12s %10s %10s %10s %14s %9.1f\n' $cut "$primary" $here "$checked" "$wrong" \
        "$(sql "$survivor" 'SELECT count(*) FROM pgbench_history')" "$lost" "$down"
    longest=$(printf '%s\n' "$longest" "$down" | sort -g | tail -n 1)
    no_troubles
    primary=$survivor
done
books "$primary"
! at "$primary" grep -E 'PANIC|I/O error|invalid page|could not (read|write|fsync)' /run/pg/log || fail "the database complains"
as "$primary" pg_ctl -w -m fast stop >"$work/stop.out" 2>&1
as "$primary" pg_checksums --check >"$work/checksums.out" 2>&1 || fail "pg_checksums: $(tail -n 3 "$work/checksums.out")"
at "$primary" umount /mnt/r0
at "$primary" e2fsck -fn /dev/drbd0 >"$work/e2fsck.out" 2>&1 || fail "the file system is not clean"
$primary secondary r0
same "after $cuts power cuts"
measured "$(printf '%s power cuts; %s transactions acknowledged, %s lost; back after %.1f s' "$cuts" "$checked" "$wrong" "$longest")"
