# Works in /root/work like a version control system, a database and fio at once. After each step it prints what is durable now, as `sha256sum`
# does, and `gone  NAME` for what is removed for good; then `@step@`, and waits for a line. $1: rounds.
mkdir -p /root/work && cd /root/work || exit 1

said() {
    echo "@step@"
    read -r _
}

holds() {
    find "$@" -type f -exec sha256sum {} +
    said
}

# A checkout: each file is written beside its place and renamed into it, then the whole tree is; one `sync` for all.
checkout() {
    mkdir new
    for directory in a b c; do
        mkdir new/$directory
        for file in 1 2 3 4 5 6 7; do
            head -c $((file * file * 1009 + $1)) /dev/urandom >new/$directory/.$file
            mv new/$directory/.$file new/$directory/$file
        done
    done
    mv new tree.$1
    sync
    holds tree.$1
}

# An index: a new one is made durable beside the old one and renamed over it, and the directory is made durable.
index() {
    { echo "round $1"; find . -type f; head -c 6000 /dev/urandom | base64; } >index.lock
    sync index.lock
    mv index.lock index
    sync .
    holds index
}

# A page of a database, written over in place.
page() {
    head -c 4096 /dev/urandom | dd of=page bs=4096 iflag=fullblock conv=notrunc,fsync 2>/dev/null
    holds page
}

# A file of random writes with a flush after each eighth. Its end is not flushed by name: fio's last fsync is.
random() {
    fio --name=random --filename=random.$1 --size=512k --bs=4k --rw=randwrite --direct=1 --ioengine=libaio --iodepth=16 \
        --fsync=8 --end_fsync=1 --verify=crc32c --verify_fatal=1 --fallocate=none --randseed=$1 >/dev/null || echo "fio failed"
    holds random.$1
}

# A file out of which a hole was punched: the filesystem hands the blocks back to the disk (`discard`).
hole() {
    head -c 65536 /dev/urandom >hole.$1
    sync hole.$1
    /usr/bin/fallocate --punch-hole --offset 16384 --length 32768 hole.$1 || echo "fallocate failed"
    sync hole.$1
    holds hole.$1
}

# The checkout before the last is removed.
forget() {
    find tree.$1 -type f | sed 's/^/gone  /'
    rm -r tree.$1
    sync
    said
}

# A load that always has writes under way. The first rounds are without it, so that a promise is the last thing that happened.
load() {
    fio --name=load --filename=/root/load --size=8M --bs=4k --rw=randwrite --direct=1 --ioengine=libaio --iodepth=16 --fsync=32 \
        --rate_iops=150 --time_based --runtime=3600 --fallocate=none >/dev/null 2>&1 </dev/null &
}

mount -o remount,discard / || echo "remount failed"
round=1
while [ $round -le $1 ]; do
    if [ $round -eq 3 ]; then load; fi
    checkout $round
    index $round
    page $round
    random $round
    hole $round
    page $round
    if [ $round -gt 2 ]; then forget $((round - 2)); fi
    round=$((round + 1))
done
echo "@end@"
