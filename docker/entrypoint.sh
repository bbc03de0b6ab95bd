#!/bin/bash
# The container's first process. As root it finds out whose ./work is, gives root's files in the mounts to that
# user, becomes that user and gives up every capability; then it checks the mounts and starts the command.
set -euo pipefail

mounts=("$ANOMALY_WORK" /workshop/notebooks)

# Print who to be, as uid:gid: the owner of ./work, and 1000:1000 when that is root, because Docker made the
# folder or the host's user is root. In rootless Docker and Podman, root is the host's user and stays so.
owner() {
    local owner inside outside
    owner=$(stat --format %u:%g "$ANOMALY_WORK")
    read -r inside outside _ </proc/self/uid_map
    if [[ $owner == 0:* && $inside == "$outside" ]]; then
        owner=1000:1000
    fi
    echo "$owner"
}

# Give what belongs to root in the mounted folders, and only that, to the user uid:gid.
give_away() {
    local owner=$1 folder
    for folder in "${mounts[@]}"; do
        find "$folder" -xdev -user 0 -exec chown --no-dereference "$owner" {} + 2>/dev/null || true
    done
}

# Stop with one sentence when a mounted folder cannot be written.
check_writable() {
    local folder name
    for folder in "${mounts[@]}"; do
        [[ -w $folder && -x $folder ]] && continue
        name=./$(basename "$folder")
        if grep --quiet " $folder [^ ]* ro[, ]" /proc/self/mounts; then
            echo "$name is mounted read-only: make it writable in docker-compose.yaml and start again." >&2
        else
            echo "$name cannot be written by user $(id -u), the owner of ./work: run" \
                "\`sudo chown -R $(id -u):$(id -g) $name && sudo chmod -R u+rwX $name\` and start again." >&2
        fi
        exit 1
    done
}

if [[ $(id -u) == 0 ]] && grep --quiet '^CapBnd:.*[1-9a-f]' /proc/self/status; then
    user=$(owner)
    give_away "$user"
    exec setpriv --reuid "${user%:*}" --regid "${user#*:}" --clear-groups \
        --bounding-set=-all --inh-caps=-all -- "$0" "$@"
fi

check_writable
mkdir -p "$HOME"
exec tini -- "$@"
