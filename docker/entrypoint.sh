#!/bin/bash
# The container's first process. As root it finds out whose ./work is, gives root's files in the mounts to that
# user, becomes that user and gives up every capability. Then, below tini, it checks the mounts and starts the
# command.
set -euo pipefail

# The first process has no default for a signal: without these, none would be heard before tini runs.
trap 'exit 130' INT
trap 'exit 143' TERM

mounts=("$ANOMALY_WORK" /workshop/notebooks)

# Print who to be, as uid:gid: the owner of ./work, and 1000:1000 when that is root, because Docker made the
# folder or the host's user is root. Root's group goes too: somebody's folder in it gives its owner no share in
# the group. In rootless Docker and Podman, root is the host's user and stays so.
owner() {
    local uid gid inside outside
    read -r uid gid < <(stat --format '%u %g' "$ANOMALY_WORK")
    read -r inside outside _ </proc/self/uid_map
    if [[ $inside == "$outside" ]]; then
        if [[ $uid == 0 ]]; then
            uid=1000 gid=1000
        elif [[ $gid == 0 ]]; then
            gid=$uid
        fi
    fi
    echo "$uid:$gid"
}

# Stop with one sentence when a mounted folder cannot be written or is full.
check_mounts() {
    local folder name
    for folder in "${mounts[@]}"; do
        name=./$(basename "$folder")
        if grep --quiet " $folder [^ ]* ro[, ]" /proc/self/mounts; then
            echo "$name is mounted read-only: make it writable in docker-compose.yaml and start again." >&2
        elif ! [[ -w $folder && -x $folder ]]; then
            echo "$name cannot be written by user $(id -u), the owner of ./work: run" \
                "\`sudo chown -R $(id -u):$(id -g) $name && sudo chmod -R u+rwX $name\` and start again." >&2
        elif full "$folder"; then
            echo "$name is full: free some space on the disk that it is on and start again." >&2
        else
            continue
        fi
        exit 1
    done
}

# Less than a megabyte or no file more; a file system that counts neither is not full.
full() {
    local size blocks free files free_files
    read -r size blocks free files free_files < <(stat --file-system --format '%S %b %a %c %d' "$1")
    ((blocks > 0 && free * size < 1000000 || files > 0 && free_files == 0))
}

if [[ $(id -u) == 0 ]] && grep --quiet '^CapBnd:.*[1-9a-f]' /proc/self/status; then
    user=$(owner)
    python3 -I -S "$(dirname "$0")/give_away.py" "${user%:*}" "${user#*:}" "${mounts[@]}"
    exec setpriv --reuid "${user%:*}" --regid "${user#*:}" --clear-groups \
        --bounding-set=-all --inh-caps=-all -- tini -- "$0" "$@"
elif (($$ == 1)); then
    exec tini -- "$0" "$@"
fi

check_mounts
mkdir -p -m 700 "$HOME"
exec "$@"
