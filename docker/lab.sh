#!/bin/bash
# Start JupyterLab on the workshop; the rest of its settings are in jupyter/jupyter_server_config.py.
set -euo pipefail

# JUPYTER_TOKEN unset: a new random token at each start. Set to nothing or to little: refused, for whoever has or
# guesses it can run code.
if [[ -v JUPYTER_TOKEN ]]; then
    visible=${JUPYTER_TOKEN//[[:space:]]/}
    if [[ -z $visible ]]; then
        echo "JUPYTER_TOKEN is empty: give it a value, or unset it to get a random token at each start." >&2
        exit 1
    elif ((${#visible} < 16)); then
        echo "JUPYTER_TOKEN has ${#visible} characters and needs 16 or more, for it can be guessed: take what" \
            "\`openssl rand -hex 24\` prints, or unset it to get a random token at each start." >&2
        exit 1
    fi
fi
JUPYTER_TOKEN=${JUPYTER_TOKEN:-$(python3 -c 'import secrets; print(secrets.token_hex(24))')}
export JUPYTER_TOKEN

# JUPYTER_HOSTNAMES: names and addresses as a browser sends them, without scheme, port and path.
IFS=", " read -ra names <<<"${JUPYTER_HOSTNAMES-}"
for name in "${names[@]}"; do
    if ! [[ $name =~ ^([A-Za-z0-9._-]+|\[[0-9A-Fa-f:]+\])$ ]]; then
        echo "JUPYTER_HOSTNAMES: '$name' is no host name: give names alone, such as box.example.org," \
            "with commas between them." >&2
        exit 1
    fi
done

# Without a workshop to open (the mounted folder is new), put the image's notebooks there.
notebooks=/workshop/notebooks
if [[ ! -e $notebooks/workshop.ipynb ]]; then
    cp --recursive --no-clobber /opt/anomaly/notebooks/. "$notebooks"
fi

exec jupyter lab
