# needs: vi
# says: b

echo a >f && vi -es -u NONE -c s/a/b/ -c wq f && cat f
