#!/usr/bin/env python3
"""Starts an image of buildah as a cluster would, and requests a tile from it.

    deploy/image/try.py restain:cpu

It needs root and runc. User, variables, command, volumes and health check are those of the image; the root is read-only,
without capabilities, and the network is a loopback of its own, so that the image's ports are free. Prints measurements, and
exits at the first failed check.
"""

import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TILE = ROOT / "docs/tile.png"
PNG = b"\x89PNG\r\n\x1a\n"
# Compilers and interpreters that no image should contain.
UNWANTED = re.compile(r"^(.*-)?(gcc|g\+\+|cc|c\+\+|cpp|clang|ld|as|make|rustc|cargo|python|pip)[0-9.]*(-[0-9.]+)?$")
PATIENCE_S = 120


def output(*command, **more):
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, **more)
    if done.returncode:
        sys.exit(f"{' '.join(str(part) for part in command)} ended with {done.returncode}")
    return done.stdout


def check(so, what, otherwise=""):
    if not so:
        sys.exit(f"not so: {what}\n{otherwise}")
    print(f"  {what}")


class Image:
    def __init__(self, name):
        self.name = name
        described = json.loads(output("buildah", "inspect", "--type", "image", name))
        self.config = described["Docker"]["config"]
        self.history = [step for step in described["OCIv1"]["history"] if not step.get("empty_layer")]

    def user(self):
        return [int(part) for part in self.config["User"].split(":")]


class Container:
    """One run of an image, from its mounted root."""

    def __init__(self, image, root, folder, environment=(), mounts=()):
        self.image, self.folder = image, Path(folder)
        self.id = f"restain-{os.getpid()}-{self.folder.name}"
        self.folder.mkdir()
        uid, gid = image.user()
        binds = list(mounts)
        for volume in image.config.get("Volumes") or {}:
            # As an engine makes an anonymous volume: what the image has there, under the same owner.
            copy = self.folder / "volume"
            output("cp", "--archive", f"{root}{volume}", copy)
            binds.append((copy, volume, "rw"))
        self.process = {
            "user": {"uid": uid, "gid": gid},
            "args": [*image.config["Entrypoint"], *image.config["Cmd"]],
            "env": [*image.config["Env"], *environment],
            "cwd": "/",
            "noNewPrivileges": True,
            "capabilities": {},
        }
        # It must not know this machine's root: neither devices nor /tmp are given to it.
        mounts = [{"destination": "/proc", "type": "proc", "source": "proc"}]
        mounts += [{"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=64k"]}]
        mounts += [{"destination": at, "type": "bind", "source": str(what), "options": ["bind", mode]} for what, at, mode in binds]
        namespaces = [{"type": kind} for kind in ("mount", "pid", "ipc", "uts", "network")]
        self.bundle = {
            "ociVersion": "1.0.2",
            "process": self.process,
            "root": {"path": str(root), "readonly": True},
            "mounts": mounts,
            "linux": {"namespaces": namespaces},
        }

    def runc(self, *command):
        return ["runc", *command]

    def run(self, *arguments):
        """To its end: exit status and what it printed."""
        self.write(arguments)
        done = subprocess.run(self.runc("run", "--bundle", self.folder, self.id), capture_output=True, timeout=PATIENCE_S)
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    def start(self):
        self.write(())
        self.log = open(self.folder / "log", "wb")
        pidfile = self.folder / "pid"
        command = self.runc("run", "--bundle", self.folder, "--pid-file", pidfile, self.id)
        self.started = time.monotonic()
        self.server = subprocess.Popen(command, stdout=self.log, stderr=self.log)
        while not (pidfile.exists() and pidfile.read_text()):
            self.still_runs()
            time.sleep(0.01)
        self.pid = pidfile.read_text().strip()

    def write(self, arguments):
        if arguments:
            self.process["args"] = [*self.image.config["Entrypoint"], *arguments]
        (self.folder / "config.json").write_text(json.dumps(self.bundle))

    def still_runs(self):
        if self.server.poll() is not None or time.monotonic() - self.started > PATIENCE_S:
            self.remove()
            sys.exit(f"it ended or is not ready after {PATIENCE_S} s:\n{(self.folder / 'log').read_text()}")

    def is_well(self):
        """The image's health check, as an engine runs it."""
        kind, *command = self.image.config["Healthcheck"]["Test"]
        assert kind == "CMD"
        return subprocess.run(self.runc("exec", self.id, *command), capture_output=True).returncode == 0

    def ready(self):
        while not self.is_well():
            self.still_runs()
            time.sleep(0.05)
        return time.monotonic() - self.started

    def inside(self, *command, **more):
        """A program of this machine in the container's network."""
        return output("nsenter", f"--net=/proc/{self.pid}/ns/net", *command, **more)

    def resident_mib(self):
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) // 1024

    def remove(self):
        subprocess.run(self.runc("delete", "--force", self.id), capture_output=True)

    def stop(self):
        os.kill(int(self.pid), signal.Signals[self.image.config["StopSignal"]])
        return self.server.wait(timeout=PATIENCE_S)


def contents(image, root):
    uid, gid = image.user()
    check(uid and gid, f"it runs as {uid}:{gid}")
    found = [path for path in Path(root).rglob("*") if path.is_file() or path.is_symlink()]
    check(not [path for path in found if UNWANTED.match(path.name) and "bin" in path.parts], "it has no compiler, no Python and no cargo")
    programs = sorted(path.name for path in (Path(root) / "usr/local/bin").iterdir())
    check(len(programs) == 1, f"its one program is {programs[0]}")
    owned = {str(path.relative_to(root)) for path in Path(root).rglob("*") if path.lstat().st_uid == uid}
    volumes = [volume.lstrip("/") for volume in image.config.get("Volumes") or {}]
    check(all(path.startswith(tuple(volumes)) for path in owned), f"of its files that user owns {sorted(owned) or 'none'}")
    bill = json.loads((Path(root) / "usr/share/doc/restain/sbom.cdx.json").read_text())
    kinds = [part["purl"].split("/")[0] for part in bill["components"]]
    counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in sorted(set(kinds)))
    check(bill["metadata"]["component"]["name"] == programs[0], f"its bill of materials names {counts}")
    revision = image.config["Labels"]["org.opencontainers.image.revision"]
    check(revision not in ("", "unknown"), f"it was made from {revision}")


def serving(image, root, folder):
    status, _, said = Container(image, root, folder / "open").run()
    check(status == 2 and "insecure" in said, "without keys it refuses to serve others", f"{status}: {said}")
    # The CPU, because this machine may have no GPU for the GPU's image.
    environment = ["RESTAIN_KEYS=/etc/restain/keys/keys.toml", "RESTAIN_DEVICES=cpu", "RESTAIN_DRAIN_DELAY=0s"]
    status, entry, token = Container(image, root, folder / "key").run("key", "trial", "--scope", "augment")
    check(status == 0, "`restain key` makes a key", token)
    keys = folder / "keys"
    keys.mkdir()
    (keys / "keys.toml").write_text(entry)
    os.chmod(folder, 0o755)
    token = re.findall(r"\S{20,}", token)[-1]
    container = Container(image, root, folder / "served", environment, [(keys, "/etc/restain/keys", "ro")])
    container.start()
    try:
        check(container.ready() > 0, f"its health check succeeds {time.monotonic() - container.started:.1f} s after the start")
        ask = ["curl", "-sS", "--fail", "--data-binary", f"@{TILE}", "-H", "Content-Type: image/png", "-H", "Accept: image/png"]
        ask += ["-H", f"Authorization: Bearer {token}", "http://127.0.0.1:8080/v1/augment"]
        answer = container.inside(*ask)
        wanted = struct.unpack(">II", TILE.read_bytes()[16:24])
        check(answer[:8] == PNG and struct.unpack(">II", answer[16:24]) == wanted, "it answers a tile with a PNG of {}×{}".format(*wanted))
        check(answer != TILE.read_bytes(), f"and with another picture, of {len(answer)} bytes; {container.resident_mib()} MiB resident")
        check(container.stop() == 0, "after SIGTERM it ends with 0")
        written = [path for path in (folder / "served/volume").rglob("*") if path.is_file()]
        check(written, f"it has written {len(written)} files into its volume, and nowhere else")
    finally:
        container.remove()


def training(image, root, folder):
    status, _, said = Container(image, root, folder / "help").run("--help")
    check(status == 0, "the trainer lists its commands", said)
    out = folder / "out"
    out.mkdir()
    shutil.chown(out, *image.user())
    os.chmod(folder, 0o755)
    arguments = ("init", "--preset", "tiny", "--out", "/models/trial/1")
    status, _, said = Container(image, root, folder / "init", mounts=[(out, "/models", "rw")]).run(*arguments)
    check(status == 0 and (out / "trial/1/bundle.json").is_file(), "and exports a bundle through ONNX Runtime", said)


def sizes(image, folder):
    output("buildah", "push", "--quiet", image.name, f"oci:{folder}/oci")
    blobs = folder / "oci/blobs/sha256"
    index = json.loads((folder / "oci/index.json").read_text())

    def blob(descriptor):
        return blobs / descriptor["digest"].removeprefix("sha256:")

    layers = json.loads(blob(index["manifests"][0]).read_text())["layers"]
    whole = packed = 0
    print("     MB  packed  layer")
    for layer, step in zip(layers, image.history, strict=True):
        size = int(subprocess.run(f"gzip -dc {blob(layer)} | wc -c", shell=True, stdout=subprocess.PIPE, check=True).stdout)
        whole, packed = whole + size, packed + layer["size"]
        made = re.sub(r"^/bin/sh -c (#\(nop\) *)?", "", step.get("created_by", "")).removesuffix("/bin/sh") or "the base image"
        made = re.sub(r"^COPY \S+ in (\S+).*", r"\1", made)
        print(f"  {size / 1e6:5.1f}  {layer['size'] / 1e6:6.1f}  {made[:60]}")
    print(f"  {whole / 1e6:5.1f}  {packed / 1e6:6.1f}  {image.name}")


def main():
    image = Image(sys.argv[1])
    print(image.name)
    container = output("buildah", "from", "--pull=never", image.name).decode().strip()
    root = output("buildah", "mount", container).decode().strip()
    try:
        with tempfile.TemporaryDirectory(prefix="restain-image-") as folder:
            contents(image, root)
            program = Path(image.config["Entrypoint"][0]).name
            (training if program == "restain-train" else serving)(image, root, Path(folder))
            sizes(image, Path(folder))
    finally:
        output("buildah", "rm", container)


if __name__ == "__main__":
    main()
