# needs: flock
# says: held

flock f sh -c 'flock -n f echo no || echo held'
