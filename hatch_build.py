"""What hatchling runs when it makes a wheel: the kernels are compiled, and their library goes in.

The library knows nothing of Python's versions, so one wheel serves all of them on a platform.
"""

import os
import platform
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from packaging.tags import platform_tags


class KernelsHook(BuildHookInterface):
    """Compiles the kernels."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        """Return what building takes beyond pyproject.toml: a linker, where there is no C compiler.

        Returns
        -------
        list of str
            Elsewhere than on these systems there is no such package, and the build says what it lacks.
        """
        compiler = shlex.split(os.environ.get("CC", "")) or ["cc"]
        has_compiler = shutil.which(compiler[0])
        has_package = sys.platform in {"linux", "darwin"} and platform.machine() in {"x86_64", "aarch64", "arm64"}
        return ["ziglang>=0.13"] if has_package and not has_compiler else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Provide the library and put it into the wheel.

        Parameters
        ----------
        version : str
            ``standard``, or ``editable``: then the library stays in the source tree.
        build_data : dict
            What hatchling is told of the wheel.

        Raises
        ------
        SystemExit
            The library cannot be built: the sentence that says why is the last that pip shows, without a traceback.
        """
        sys.path.insert(0, self.root)
        os.environ.pop("NUMBA_BOUNDSCHECK", None)  # of a library that is installed nobody asks for bounds checks
        try:
            from pcapdiag.base.errors import KernelsError  # noqa: PLC0415 - found by its path, just set
            from pcapdiag.engine.compiler.library import provide_library  # noqa: PLC0415
        except ModuleNotFoundError as error:
            msg = f"pcapdiag: building takes {error.name}, too: without --no-build-isolation pip brings what it takes"
            raise SystemExit(msg) from None

        try:
            path = provide_library()
        except KernelsError as error:
            msg = f"pcapdiag: {error}"
            raise SystemExit(msg) from None
        if version != "editable":
            build_data["artifacts"].append(str(path.relative_to(Path(self.root).resolve())))
        build_data["pure_python"] = False
        # The first is the plainest: the others name the make of the C library, of which the library needs nothing.
        system = next(tag for tag in platform_tags() if not tag.startswith(("manylinux", "musllinux")))
        build_data["tag"] = f"py3-none-{system}"
