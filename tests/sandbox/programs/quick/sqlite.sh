# needs: sqlite3
# says: wal
# says: 7

sqlite3 db 'pragma journal_mode=wal; create table t(x); insert into t values(7); select x from t'
