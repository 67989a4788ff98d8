#!/bin/bash
# dracut module: activates the selected op-dbus version before the host starts.
# Opt-in: named by /etc/dracut.conf.d/50-op-dbus.conf.
# shellcheck disable=SC2154 # moddir, initdir, systemdsystemunitdir are dracut's

activator=/usr/libexec/op-dbus/op-dbus-activate
config=/etc/op-dbus/deploy.toml

check() {
    require_binaries "$activator" || return 1
    # 255: only when asked for by name.
    return 255
}

depends() {
    echo "systemd-initrd udev-rules"
}

# The store's device, from the device = "…" line of the configuration.
store_device() {
    local device
    device=$(sed -n 's/^[[:space:]]*device[[:space:]]*=[[:space:]]*"\([^"]*\)".*/\1/p' "${dracutsysrootdir-}$config" 2> /dev/null)
    readlink -e "${device/#UUID=//dev/disk/by-uuid/}"
}

# Which activator went into this image: dracut may strip the copy, and then
# nobody could tell it from another one. `op-dbus-stage check target` reads it.
stamp() {
    local installed=${dracutsysrootdir-}$activator sum version
    sum=$(sha256sum < "$installed") || return 0
    echo "activator-sha256=${sum%% *}"
    # Not while the image is for another root, and maybe another processor.
    if [[ -z ${dracutsysrootdir-} ]] && version=$("$installed" --version 2> /dev/null); then
        echo "activator-version=${version##* }"
    fi
}

installkernel() {
    # Whatever holds the root, the store is Btrfs and the version is under an overlay.
    hostonly='' instmods btrfs overlay
    # An image for this host only holds the drivers of the root's disk; the store may be on another.
    local device
    if device=$(store_device); then
        # shellcheck disable=SC2046 # one driver a word
        instmods $(get_dev_module "$device")
    fi
}

install() {
    inst_simple "$activator"
    inst_simple "$config" || dwarn "op-dbus: no $config: this image will activate nothing"
    mkdir -p "$initdir/etc/op-dbus"
    stamp > "$initdir/etc/op-dbus/initramfs.stamp"
    # by-uuid links, and complete multi-device file systems
    inst_rules 60-persistent-storage.rules 64-btrfs.rules
    inst_simple "$moddir/op-dbus-initrd.service" "$systemdsystemunitdir/op-dbus-initrd.service"
    $SYSTEMCTL -q --root "$initdir" add-wants initrd.target op-dbus-initrd.service
}
