#!/bin/sh
# Makes a Python 3.11 for aarch64 with numpy and ONNX Runtime in a folder, for `shiftedge bench
# --emulate` to run under qemu-aarch64:
#
#   sh python.sh [FOLDER [VERSION_OF_ONNXRUNTIME]]
#
# Debian's own packages are fetched with apt-get and unpacked, the wheels, which a board would
# install, with pip; some 40 MB. Nothing of this machine's packages is touched. It takes Debian 12
# or another system whose apt-get sources have python3.11 for arm64.
set -eu
folder=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/shiftedge/emulated-python}
onnxruntime=onnxruntime${2:+==$2}
mkdir -p "$folder"
cd "$folder"
folder=$PWD
rm -rf lists packages root site
mkdir -p lists/partial packages root/proc
fetch() {
    apt-get -oAPT::Architecture=arm64 -oAPT::Architectures=arm64 -oDebug::NoLocking=1 \
        -oDir::State::Lists="$folder/lists" -oAPT::Sandbox::User= -qq "$@"
}
fetch update
cd packages
fetch download python3.11-minimal libpython3.11-minimal libpython3.11-stdlib python3.11 libc6 \
    libgcc-s1 libstdc++6 libexpat1 zlib1g libffi8 libssl3 libbz2-1.0 liblzma5 libsqlite3-0 \
    libuuid1 libcrypt1
cd ..
for package in packages/*.deb; do
    dpkg -x "$package" root
done
# ONNX Runtime asks this file for the kind of core, through QEMU's prefix; with an x86's it crashes.
cat >root/proc/cpuinfo <<END
processor	: 0
BogoMIPS	: 108.00
Features	: fp asimd evtstrm crc32 cpuid
CPU implementer	: 0x41
CPU architecture: 8
CPU variant	: 0x0
CPU part	: 0xd08
CPU revision	: 3

END
# Wheels that run with Debian 12's glibc, 2.36.
python3 -m pip install --quiet --disable-pip-version-check --no-deps --no-compile --target site \
    --only-binary=:all: --python-version 3.11 --implementation cp \
    --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 \
    --platform manylinux2014_aarch64 numpy "$onnxruntime"
rm -rf lists packages
