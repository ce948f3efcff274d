# needs: fio
# says: 0

fio --name=x --size=1m --rw=randrw --verify=crc32c --minimal | cut -d';' -f5
