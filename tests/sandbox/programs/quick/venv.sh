# says: 42

mkdir thing && echo 'answer = 42' >thing/__init__.py
cat >setup.py <<'END'
from setuptools import setup
setup(name="thing", version="1", packages=["thing"])
END
"$python" -m venv --without-pip env
"$python" -m pip --disable-pip-version-check install -q --no-index --no-build-isolation \
    --target "$(echo env/lib/python3*/site-packages)" . 2>errors || cat errors
cd / && "$OLDPWD/env/bin/python" -c 'import thing; print(thing.answer)'
