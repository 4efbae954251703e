#!/usr/bin/env bash
# Installs the Debian packages that some tests need where it may; names them where it may not (those tests then skip).
set -u
packages=(libegl1 libgl1 libgl1-mesa-dri libxkbcommon0 libfontconfig1 libdbus-1-3 libglib2.0-0 cmake chromium
    openssh-client openssh-server)
missing=()
for package in "${packages[@]}"; do
    dpkg-query --show --showformat='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0
if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
    # The tests start an sshd of their own on loopback; the system's must not open a port because of them.
    case " ${missing[*]} " in
        *" openssh-server "*) mkdir -p /etc/systemd/system && ln -sn /dev/null /etc/systemd/system/ssh.service 2>/dev/null ;;
    esac
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${missing[@]}" >/dev/null && exit 0
fi
echo "Missing system packages: ${missing[*]}. The tests that need them are skipped; install them for the whole suite."
