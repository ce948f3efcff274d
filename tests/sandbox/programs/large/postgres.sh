# needs: psql
# options: --userns=keep-id
# says: 5050

bin=$(ls -d /usr/lib/postgresql/*/bin /usr/bin/initdb 2>/dev/null | head -n 1)
PATH=${bin%/initdb}:$PATH
export LC_ALL=C
initdb -D data -A trust >/dev/null
pg_ctl -D data -o '-k /tmp -h 127.0.0.1' -l log -w start >/dev/null
psql -h 127.0.0.1 -d postgres -Atqc 'create table t as select generate_series(1, 100) x; select sum(x) from t'
pg_ctl -D data -w stop >/dev/null
