"""Adds files that cargo has built to a wheel, and gives the wheel the tag that they need.

Without RESTAIN_WHEEL, as with `pip install clients/python`, the wheel is that of pure Python. tools/wheels.py sets it,
to JSON: `tag`, and for each place in `files` (below the wheel's root) and in `data` (below the environment's root) the
path of the file.
"""

import json
import os

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class BuiltFiles(BuildHookInterface):
    def initialize(self, version, build_data):
        given = os.environ.get("RESTAIN_WHEEL")
        if given and self.target_name == "wheel" and version == "standard":
            wheel = json.loads(given)
            build_data["pure_python"] = False
            build_data["tag"] = wheel["tag"]
            build_data["force_include"].update({path: place for place, path in wheel["files"].items()})
            build_data["shared_data"].update({path: place for place, path in wheel["data"].items()})
