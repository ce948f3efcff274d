# says: 1

echo 'import os' >a.py
"$python" -m ruff check --isolated --no-cache -q --output-format concise a.py | grep -c F401
