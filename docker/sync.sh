#!/bin/bash
# While the image is built: install what Pipfile.lock names into $VIRTUAL_ENV, with --dev the dev packages too.
# Your own package index comes as a secret, which only this script sees: it may have a password, and whatever is
# an argument of the build stays in the image's history. pipenv lives only while it works.
set -euo pipefail

index=/run/secrets/pip_index_url
if [[ -s $index ]]; then
    PIP_INDEX_URL=$(<"$index")
    export PIP_INDEX_URL
fi

python3 -m venv /tmp/pipenv
/tmp/pipenv/bin/pip install --quiet "pipenv==$PIPENV_VERSION"
HOME=/tmp PIPENV_VERBOSITY=-1 /tmp/pipenv/bin/pipenv sync "$@"
rm -rf /tmp/* /tmp/.[!.]*
