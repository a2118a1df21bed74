#!/bin/sh
# seed_root_key.sh IMAGE STATE: adds the root keys of IMAGE to STATE, the file that Unbound keeps by RFC 5011.
#
# STATE is left alone if it trusts every key of IMAGE. A key that it lacks, or does not trust yet, is added; a key that
# the root has revoked stays revoked. A state without any key, for example after damage, is replaced.
set -eu
image=$1
state=$2

# Prints the DNSKEY records of both, one a line. The number after ";;state=" is Unbound's (autotrust.h): 0 and 1 are seen
# and not trusted yet, 2 and 3 trusted, 4 and 5 revoked. A record without one is trusted.
merge() {
    awk '
        $1 != "." { next }
        {
            key = ""
            for (i = 2; i + 4 <= NF; i++)
                if ($i == "DNSKEY" && $(i + 4) ~ /^[A-Za-z0-9+\/]+=*$/ && length($(i + 4)) >= 40)
                    key = $(i + 3) " " $(i + 4)
        }
        key == "" { next }
        kept && /;;state=[01]/ { waiting[key] = $0; next }
        !(key in known) { known[key] = 1; count++; added += !kept; delete waiting[key]; print }
        END {
            for (key in waiting) print waiting[key]
            if (!count) exit 4
            if (!added) exit 3
        }
    ' kept=1 - kept=0 "$image" <"$1"
}

known=/dev/null
[ ! -f "$state" ] || known=$state
status=0
merged=$(merge "$known") || status=$?
case $status in
0) ;;
3) exit 0 ;;
4) echo "There is no root key in $image, nor in $state." >&2; exit 1 ;;
*) echo "The root keys in $image or $state cannot be read." >&2; exit 1 ;;
esac
if ! { printf '%s\n' "$merged" >"$state.new" && mv "$state.new" "$state"; }; then
    echo "The root keys in $image cannot be written to $state: is the disk full, or not writable?" >&2
    exit 1
fi
echo "The root keys in $image were added to $state." >&2
