# needs: lua5.4
# says: 42

lua5.4 -e 'print(string.format("%d", 6 * 7))'
