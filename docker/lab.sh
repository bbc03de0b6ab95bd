#!/bin/bash
# Start JupyterLab on the workshop; the rest of its settings are in jupyter/jupyter_server_config.py.
set -euo pipefail

# JUPYTER_TOKEN unset: a new random token at each start. Set to nothing: refused, for anybody could run code.
if [[ -v JUPYTER_TOKEN && -z ${JUPYTER_TOKEN//[[:space:]]/} ]]; then
    echo "JUPYTER_TOKEN is empty: give it a value, or unset it to get a random token at each start." >&2
    exit 1
fi
export JUPYTER_TOKEN=${JUPYTER_TOKEN:-$(python3 -c 'import secrets; print(secrets.token_hex(24))')}

# Without a workshop to open (the mounted folder is new), put the image's notebooks there.
notebooks=/workshop/notebooks
if [[ ! -e $notebooks/workshop.ipynb ]]; then
    cp --recursive --no-clobber /opt/anomaly/notebooks/. "$notebooks"
fi

exec jupyter lab
