# needs: jupyter-nbconvert
# says: "42

export HOME=$PWD
cat >n.ipynb <<'END'
{
 "cells": [
  {"cell_type": "code", "execution_count": null, "metadata": {}, "outputs": [], "source": ["print(6 * 7)"]}
 ],
 "metadata": {"kernelspec": {"display_name": "p", "language": "python", "name": "python3"}},
 "nbformat": 4,
 "nbformat_minor": 4
}
END
jupyter-nbconvert --to notebook --execute --output done n.ipynb >log 2>&1 || cat log
grep -o '"42' done.ipynb
