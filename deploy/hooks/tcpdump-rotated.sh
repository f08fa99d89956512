#!/bin/sh
# Reads each file that tcpdump has finished, within seconds instead of at night:
#
#   tcpdump -i eth0 -w '/var/captures/proxy_%Y%m%d_%H%M%S.pcap' -G 300 -z /opt/pcapdiag/tcpdump-rotated.sh 'tcp port 8080'
#
# tcpdump calls this with the file that it has just closed and does not wait. It runs as the user that tcpdump drops to
# (-Z), which must be able to write the store. What was read here is skipped by the nightly scan.
set -eu

PCAPDIAG=${PCAPDIAG:-/opt/pcapdiag/bin/pcapdiag}
XDG_CONFIG_HOME=${XDG_CONFIG_HOME:-/etc}
export XDG_CONFIG_HOME
umask 077

if [ $# -ne 1 ]; then
    echo "usage: $0 FILE, as tcpdump -z calls it" >&2
    exit 2
fi
case $1 in
    /*) file=$1 ;;
    *) file=$PWD/$1 ;; # no name is taken for an option
esac

# --settle 0: the file is complete, however young it is.
exec "$PCAPDIAG" scan --quiet --settle 0 --fail-on never --output /dev/null "$file"
