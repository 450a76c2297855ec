#!/bin/busybox sh
# The first process of a measured guest. `bench=JOB` on the kernel's command line says what to do; lines that begin with @ are
# for the host. Nothing is typed in and nothing waits, except for job `requests`, where the host opens and closes a window.
/tick >/first
/bin/busybox --install -s /bin
export PATH=/bin:/sbin DM_DISABLE_UDEV=1
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev

say() { echo "@$*"; }
die() { say failed "$*"; poweroff -f; }
ticks() { hexdump -v -e '/1 "%02x"' "$1"; }

job=
for word in $(cat /proc/cmdline); do
    case $word in bench=*) job=${word#bench=} ;; esac
done
for module in virtio_mmio virtio_blk ext4 crc32c_generic; do
    modprobe -q $module
done
tries=0
until [ -b /dev/vda2 ]; do
    tries=$((tries + 1))
    [ $tries -lt 50 ] || die "no partition vda2; there are: $(ls /sys/block)"
    sleep 0.1
done
mkdir /new
mount -t ext4 -o ro,noload /dev/vda1 /new || die "vda1 cannot be mounted"
/tick >/mounted
say first "$(ticks /first)"
say mounted "$(ticks /mounted)"

mount --move /dev /new/dev
mount --move /proc /new/proc
mount --move /sys /new/sys
mount -t tmpfs tmp /new/tmp
# Without Haechi there is a disk apart; Haechi has one disk, and a partition of it is taken.
target=/dev/vda2
[ ! -b /new/dev/vdb ] || target=/dev/vdb

# dm-crypt over the target. A node that device mapper did not make would be a plain file to fio.
encrypt() {
    chroot /new modprobe -q aes_ce_blk
    chroot /new modprobe -q dm_crypt
    sectors=$(cat /new/sys/class/block/${target#/dev/}/size)
    key=$(printf '%0128d' 0 | sed 's/00/5a/g; s/^5a5a/a55a/')
    chroot /new dmsetup create c --table "0 $sectors crypt aes-xts-plain64 $key 0 $target 0 $1" || die "no dm-crypt"
    target=/dev/mapper/c
    say cipher "$(awk '/^name/ { n = $3 } /^driver/ && n == "xts(aes)" { print $3; exit }' /new/proc/crypto)"
}

# dm-crypt with gcm(aes) over dm-integrity, which keeps 28 bytes for each block: nonce and tag. `J` journals what it writes, `D` does
# not. It wants a disk that holds something. Everything is written once: what never was is no sealed block.
authenticate() {
    target=/dev/vda2
    for module in aes_ce_blk ghash_ce gcm dm_integrity dm_crypt; do
        chroot /new modprobe -q $module
    done
    chroot /new dd if=/dev/zero of=$target bs=4k count=1 conv=fsync 2>/dev/null
    # A device of one sector makes the kernel format it; its status then tells the sectors that there are.
    table="integrity $target 0 28 $1 1 block_size:4096"
    chroot /new dmsetup create i --table "0 8 $table" || die "no dm-integrity"
    sectors=$(chroot /new dmsetup status i | awk '{ print $5 }')
    chroot /new dmsetup remove i
    chroot /new dmsetup create i --table "0 $sectors $table" || die "no dm-integrity of $sectors sectors"
    key=$(printf '%064d' 0 | sed 's/00/5a/g')
    chroot /new dmsetup create c --table \
        "0 $sectors crypt capi:gcm(aes)-random $key 0 /dev/mapper/i 0 2 integrity:28:aead sector_size:4096" || die "no dm-crypt"
    target=/dev/mapper/c
    say cipher "$(awk '/^name/ { n = $3 } /^driver/ && n == "gcm(aes)" { print $3; exit }' /new/proc/crypto)"
    run fill write 128k 8 32M >/dev/null
}

# run NAME RW BLOCK DEPTH IO_SIZE ARGUMENT...
run() {
    chroot /new sh -c "[ -b $target ]" || die "$target is no block device"
    name=$1 rw=$2 block=$3 depth=$4 size=$5
    shift 5
    chroot /new fio --name=$name --filename=$target --rw=$rw --bs=$block --iodepth=$depth --size=32M --io_size=$size --direct=1 \
        --ioengine=libaio --thread "$@" 2>/new/tmp/err || die "fio $name: $(head -n 3 /new/tmp/err)"
}

# The whole run: fio's terse line.
rate() {
    line=$(run "$@" --output-format=terse --terse-version=3) || exit
    say rate "$1 $line"
}

# The median of all requests, in nanoseconds.
latency() {
    line=$(run "$@" --output-format=json --clat_percentiles=0 --lat_percentiles=1 --percentile_list=50) || exit
    say latency "$1 $(echo "$line" | sed -n 's/.*"50.000000" : \([0-9]*\).*/\1/p' | sort -n | tail -n 1)"
}

# Four rounds; the host throws the first one away.
rounds() {
    for round in 0 1 2 3; do
        rate write-128k write 128k 8 "$1"
        rate read-128k read 128k 8 "$1"
        rate randread-4k-qd32 randread 4k 32 "$2"
        rate randwrite-4k-qd32 randwrite 4k 32 "$2"
        latency randread-4k-qd1 randread 4k 1 2M
        latency randwrite-4k-qd1 randwrite 4k 1 2M
    done
}

# Windows that the host opens and closes: DIRECTION DEPTH BYTES each.
windows() {
    run warm-up write 128k 8 32M >/dev/null
    run warm-up randread 4k 32 1M >/dev/null
    for window in "read 1 64k" "read 1 256k" "read 32 128k" "read 32 512k" \
        "write 1 64k" "write 1 256k" "write 32 128k" "write 32 512k"; do
        set -- $window
        say open "$window"
        read -r _
        run window "rand$1" 4k "$2" "$3" >/dev/null
        say close "$window"
        read -r _
    done
}

# One block, written while the host keeps a log.
one_write() {
    run warm-up write 128k 8 32M >/dev/null
    say open
    read -r _
    run one randwrite 4k 1 4k >/dev/null
    say close
}

# Crashes of the secure domain, which the host causes while fio writes.
crashes() {
    run warm-up write 128k 8 32M >/dev/null
    run load randwrite 4k 32 16G >/dev/null &
    for crash in 1 2 3 4 5 6 7 8 9 10; do
        say crash
        read -r _
        # EL2 gives up a domain that crashes again before it has answered anything.
        run answered randread 4k 1 64k >/dev/null
    done
}

# What a compiler makes a machine do: short processes, text read and written, sorted, compressed and hashed. Nothing touches a disk.
compile() {
    for unit in 0 1 2 3 4 5 6 7 8 9; do
        awk "BEGIN { for (i = 0; i < 1500; i++) printf \"int f%d(int x) { return x * %d + %d; }\\n\", i, i * 7 + $unit, i * 13 }" >/new/tmp/unit.c
        sed 's/int/long/g; s/f\([0-9]*\)/function_\1/' /new/tmp/unit.c | sort -k 2 | gzip >/new/tmp/unit.o
        gunzip -c /new/tmp/unit.o | sha256sum >/dev/null
    done
}

# Four rounds of each load, with the counter before and after; the host throws the first one away.
loads() {
    for load in compile /ping-pong /page-faults; do
        for round in 0 1 2 3; do
            /tick >/new/tmp/before
            $load
            /tick >/new/tmp/after
            say load "${load#/} $(ticks /new/tmp/before) $(ticks /new/tmp/after)"
        done
    done
}

case $job in
    boot) ;;
    loads) loads ;;
    raw) rounds 256M 32M ;;
    crypt) encrypt "" && rounds 32M 8M ;;
    crypt-4k) encrypt "1 sector_size:4096" && rounds 32M 8M ;;
    aead) authenticate D && rounds 32M 8M ;;
    aead-journal) authenticate J && rounds 32M 8M ;;
    sealed) rounds 16M 8M ;;
    requests) windows ;;
    walk) one_write ;;
    restart) crashes ;;
    *) die "no job $job" ;;
esac
say end
poweroff -f
