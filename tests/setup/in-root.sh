#!/bin/sh
# Runs the program of its own name from the Debian tree beside it as if it were the machine's own.
#
# Apptainer wants its root to be a mount point, so a chroot is not enough. In a mount namespace of
# its own the tree becomes the root, and every folder of the machine that holds no system files
# keeps its place in it: paths in arguments mean what they mean outside. Everything is exec'd, so
# the process id that the caller sees is the program's.
set -eu
base=$(dirname "$(dirname "$(readlink -f "$0")")")
root=$base/root
[ -d "$root" ] || root=$base/sid
name=$(basename "$0")
here=$(pwd)
exec unshare --mount --propagation private /bin/sh -c '
  set -eu
  root=$1 here=$2 name=$3
  shift 3
  mount --bind "$root" "$root"
  for folder in /*/ /var/tmp/; do
    folder=${folder%/}
    [ -L "$folder" ] && continue
    case $folder in
      /bin | /sbin | /lib | /lib32 | /lib64 | /libx32 | /usr | /etc | /var | /boot | /lost+found) continue ;;
    esac
    mkdir -p "$root$folder"
    mount --rbind "$folder" "$root$folder"
  done
  for file in hosts resolv.conf passwd group; do
    [ -f "/etc/$file" ] || continue
    [ -e "$root/etc/$file" ] || : > "$root/etc/$file"
    mount --bind "/etc/$file" "$root/etc/$file"
  done
  cd "$root"
  mkdir -p .old
  pivot_root . .old
  umount -l /.old
  cd "$here" 2>/dev/null || cd /
  for program in "/usr/sbin/$name" "/usr/bin/$name"; do
    [ -x "$program" ] && exec "$program" "$@"
  done
  exit 127' sh "$root" "$here" "$name" "$@"
