# needs: php
# says: [1,2]

php -r 'echo json_encode([1, 2]), PHP_EOL;'
