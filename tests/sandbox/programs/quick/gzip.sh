# needs: gzip
# says: 50000

seq 50000 >f && gzip -k f && zcat f.gz | tail -n 1
