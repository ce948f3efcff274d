# says: 1

echo 'x: int = "a"' >a.py
"$python" -m mypy --no-incremental a.py | grep -c assignment
