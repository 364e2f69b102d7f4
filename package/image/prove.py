"""Shows that an environment has all that the sidecar needs, after package/image/slim.py.

    ENVIRONMENT/bin/python -P package/image/prove.py EXAMPLES

Runs each import statement that stands anywhere in the package, also those within functions, which
only some command ever comes to; then the commands that need neither HAProxy nor a cluster. Must not
change anything.
"""

import ast
import importlib
import pkgutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import sidecar


def modules() -> Iterator[str]:
    for found in pkgutil.walk_packages(sidecar.__path__, "sidecar."):
        if found.name != "sidecar.__main__":  # importing that one runs it
            yield found.name


def imports(source: str) -> Iterator[tuple[str, str | None]]:
    """Module, and the name that is taken of it, of each statement."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.module is None or node.level:
                sys.exit("prove.py: follows no relative imports, and ruff allows none")
            yield from ((node.module, alias.name) for alias in node.names)


def run(*arguments: str | Path) -> str:
    """Returns what of it was run."""
    command = Path(sys.executable).with_name("haproxy-sidecar")
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [command, *arguments], cwd=folder, capture_output=True, text=True, check=False
        )
    if done.returncode:
        command_line = " ".join(map(str, arguments))
        sys.exit(f"prove.py: haproxy-sidecar {command_line}:\n{done.stderr}{done.stdout}")
    return str(arguments[0])


def main(examples: Path) -> None:
    names = list(modules())
    statements: set[tuple[str, str | None]] = set()
    for name in names:
        loaded = importlib.import_module(name)
        statements.update(imports(Path(str(loaded.__file__)).read_text(encoding="utf-8")))
    for name, taken in sorted(statements, key=str):
        found = importlib.import_module(name)
        if taken and not hasattr(found, taken):
            importlib.import_module(f"{name}.{taken}")
    ran = [run("--version"), run("--help"), run("check", examples / "mysql.yaml"), run("render")]
    print(f"prove.py: {len(names)} modules, {len(statements)} imports; {', '.join(ran)}")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
