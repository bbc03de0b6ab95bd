#!/bin/bash
# Healthy when JupyterLab answers. Docker starts this as root, so it becomes nobody first.
set -euo pipefail

if [[ $(id -u) == 0 ]]; then
    exec setpriv --reuid 65534 --regid 65534 --clear-groups --bounding-set=-all --inh-caps=-all -- "$0"
fi

exec 3<>/dev/tcp/127.0.0.1/8888
printf 'GET /api HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n' >&3
read -r -t 4 status <&3
[[ $status == *' 200 '* ]]
