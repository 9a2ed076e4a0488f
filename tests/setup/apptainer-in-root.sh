#!/bin/sh
# Runs the apptainer of the Debian tree beside this program as if it were the machine's own.
#
# Apptainer wants its root to be a mount point, so a chroot is not enough. In a mount namespace of
# its own the tree becomes the root, and every folder of the machine that holds no system files
# keeps its place in it: paths in arguments mean what they mean outside. Everything is exec'd, so
# the process id that the caller sees is apptainer's.
set -eu
root=$(dirname "$(dirname "$(readlink -f "$0")")")/sid
here=$(pwd)
exec unshare --mount --propagation private /bin/sh -c '
  set -eu
  root=$1 here=$2
  shift 2
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
  exec /usr/bin/apptainer "$@"' sh "$root" "$here" "$@"
