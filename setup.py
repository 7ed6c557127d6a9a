"""The packages; all else stands in setup.cfg.

``benchmark.shipped`` is no folder of its own: it is what lies beside the package in the repository
and travels with it (``package_dir`` and ``package_data`` in setup.cfg). It holds no modules.
"""

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

SHIPPED = "benchmark.shipped"


class BuildPackages(build_py):
    """Builds packages as usual, and what is shipped as data alone."""

    def find_package_modules(self, package: str, package_dir: str) -> list[tuple[str, str, str]]:
        """Return (package, module, file) of a package's modules."""
        if package == SHIPPED:
            return []
        return super().find_package_modules(package, package_dir)


setup(
    packages=[*find_packages(include=["benchmark*"]), SHIPPED],
    cmdclass={"build_py": BuildPackages},
)
