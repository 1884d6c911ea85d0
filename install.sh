#!/bin/sh
# Creates the Python environment of the Makefile from the lock file: says what it does, and explains what fails.
# Needs PYTHON and VENV. The whole output of pip is in $VENV/install.log.
set -u

log="$VENV/install.log"

fail() {
    echo "The Python environment could not be created: $1" >&2
    echo "$2" >&2
    exit 1
}

explain() {
    if grep -qi 'no space left' "$log"; then
        free=$(df -Pk "$VENV" | awk 'NR == 2 { printf "%d", $4 / 1024 }')
        fail "the disk is full." "$VENV needs about 2.5 GB; $free MB are left. Make space, or name a new folder elsewhere: make VENV=/path/to/new/folder"
    elif grep -qiE 'retries exceeded|retrying|name resolution|connection (refused|error|reset)|timed out|proxy' "$log"; then
        fail "packages could not be downloaded." "Check the network and the proxy (HTTPS_PROXY). For an index of your own, set PIP_INDEX_URL. pip's message: $(grep -iE 'error' "$log" | tail -n 1)"
    elif grep -qi 'no matching distribution' "$log"; then
        fail "a package has no version for this platform or Python." "Supported are Linux and macOS with Python 3.11 to 3.13. pip's message: $(grep -i 'no matching' "$log" | tail -n 1)"
    elif grep -qi 'hashes' "$log"; then
        fail "a package differs from the lock file." "Its index may have replaced it. See $log"
    fi
    tail -n 5 "$log" >&2
    fail "pip failed." "Its whole output is in $log"
}

if [ -d "$VENV" ] && [ ! -e "$VENV/pyvenv.cfg" ] && [ -n "$(ls -A "$VENV")" ]; then
    fail "$VENV is a folder with other files, which would be deleted." "Name a new folder: make VENV=/path/to/new/folder"
fi

echo "1 of 3: creating the Python environment in $VENV"
made=$("$PYTHON" -m venv --clear "$VENV" 2>&1) || fail "$made" "Check that the folder can be written. Debian without the module venv: apt install python3-venv"

echo "2 of 3: downloading and installing the packages of requirements.lock (one to three minutes)"
"$VENV/bin/python" -m pip install --disable-pip-version-check --no-input --progress-bar off --no-deps --require-hashes \
    --requirement requirements.lock >"$log" 2>&1 &
pip=$!
trap 'kill $pip 2>/dev/null' INT TERM HUP
shown=''
while kill -0 $pip 2>/dev/null; do
    sleep 3
    if grep -q '^Installing collected' "$log"; then
        now='   all packages are downloaded; installing them'
    else
        now="   $(grep -c "^Collecting" "$log") packages downloaded"
    fi
    [ "$now" = "$shown" ] || echo "$now"
    shown=$now
done
wait $pip || explain

echo "3 of 3: installing otc-assets"
"$VENV/bin/python" -m pip install --disable-pip-version-check --no-input --no-build-isolation --no-deps --editable . \
    >>"$log" 2>&1 || explain
