# needs: rsync
# says: f
# says: g

mkdir a && seq 9 >a/f && ln a/f a/g
rsync -aH a/ b/ && rsync -aHn --itemize-changes a/ b/ && ls b
