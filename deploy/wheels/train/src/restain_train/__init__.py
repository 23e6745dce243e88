"""The program `restain-train`, on the libtorch of the package torch."""

from importlib import metadata

from .launch import fail, folders, run

# The series whose libtorch the program was linked with: others lack symbols that it needs.
SERIES = "2.11."


def main():
    libraries = [folder / "lib" for folder in folders("torch")]
    if not libraries:
        fail(f"the package torch is not installed: pip install 'torch=={SERIES}*'")
    version = metadata.version("torch")
    if not version.startswith(SERIES):
        fail(f"torch is {version}, and must be {SERIES}*: pip install 'torch=={SERIES}*'")
    run(__file__, libraries)
