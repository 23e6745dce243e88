#!/bin/bash
# deploy/image/bases.sh   Makes substitutes for the Dockerfile's base images from Debian's packages and this machine's Rust, for
# machines without an image registry. It needs root. Use them for tests only, and do not push them.
#
# They use this machine's settings for package registries: mirror, certificates, pip and cargo. Existing images are kept;
# `buildah rmi` removes them.

set -euo pipefail
cd "$(dirname "$0")/../.."
export BUILDAH_ISOLATION=chroot

named() {
    sed -n "s/^ARG $1=//p" Dockerfile
}

# Makes a container, runs a function on its root, and commits the result under a name.
image() {
    local name=$1 from=$2 make=$3 container root
    buildah inspect --type image "$name" >/dev/null 2>&1 && return
    echo "making a stand-in for $name" >&2
    container=$(buildah from --pull=never "$from")
    root=$(buildah mount "$container")
    "$make" "$root" "$container"
    buildah unmount "$container" >/dev/null
    buildah commit --quiet --rm "$container" "$name" >/dev/null
}

debian() {
    local root=$1 mirror release
    # The release's name, which only the other image's tag contains; tests/deploy checks that both are one release.
    release=$(named RUST_IMAGE)
    release=${release##*-}
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | head -n 1)
    debootstrap --variant=minbase "$release" "$root" "$mirror" >&2
    apt-config dump | grep '^Acquire::' > "$root/etc/apt/apt.conf.d/90host"
    printf 'APT::Sandbox::User "root";\n' >> "$root/etc/apt/apt.conf.d/90host"
    install -d "$root/usr/local/share/ca-certificates" "$root/etc"
    cp --recursive /usr/local/share/ca-certificates/. "$root/usr/local/share/ca-certificates/"
    [ ! -e /etc/pip.conf ] || cp /etc/pip.conf "$root/etc/pip.conf"
    # Packages that the slim images lack.
    rm -rf "$root"/usr/share/{doc,man,info,locale,lintian}/* "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/var/log/*
    grep -qx "$(named DEBIAN_IMAGE | sed 's/.*:\(.*\)-slim/\1/')" "$root/etc/debian_version" \
        || echo "the mirror has Debian $(cat "$root/etc/debian_version"), the Dockerfile names $(named DEBIAN_IMAGE)" >&2
}

rust() {
    local root=$1 container=$2 home sysroot
    home=/usr/local/cargo
    sysroot=$(rustc --print sysroot)
    buildah run --network host "$container" -- sh -c \
        'apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends gcc libc6-dev ca-certificates' >&2
    install -d "$root$home/bin" "$root/usr/local/rustup/toolchain"
    tar --create --directory "$sysroot" --exclude=share --exclude=lib/rustlib/src . | tar --extract --directory "$root/usr/local/rustup/toolchain"
    ln -s ../../rustup/toolchain/bin/{cargo,rustc} "$root$home/bin/"
    for settings in config.toml config; do
        [ ! -e "${CARGO_HOME:-$HOME/.cargo}/$settings" ] || cp "${CARGO_HOME:-$HOME/.cargo}/$settings" "$root$home/"
    done
    buildah config --env CARGO_HOME=$home --env "PATH=$home/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" "$container"
    case $(named RUST_IMAGE) in
        *:"$(rustc --version | cut -d ' ' -f 2)"-*) ;;
        *) echo "this machine has $(rustc --version), the Dockerfile names $(named RUST_IMAGE)" >&2 ;;
    esac
}

image "$(named DEBIAN_IMAGE)" scratch debian
image "$(named RUST_IMAGE)" "$(named DEBIAN_IMAGE)" rust
