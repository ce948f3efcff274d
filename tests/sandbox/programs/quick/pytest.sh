# says: 20 passed

cat >test_it.py <<'END'
import pytest

@pytest.mark.parametrize("n", range(20))
def test_it(n, tmp_path):
    (tmp_path / "f").write_text("x")
END
unset PYTEST_ADDOPTS
# With its own directory for temporary files: it would clear away what other test runs have left in /tmp.
"$python" -m pytest -q -p no:cacheprovider --basetemp="$PWD/temporary" test_it.py | grep -o '20 passed'
