"""What a wheel's metadata needs besides pyproject.toml: where the project is, and a README whose
links lead there.

No address is written down here: who builds for a package index names it, in PROJECT_URL. README.md
keeps relative links, which work in any copy of the repository; on an index they would be dead.
Must import nothing but hatchling and the standard library: it runs in the environment of the build.
"""

import os
import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

#: A link or a picture to a file of the repository: `[text](path#part)`, `![text](path)`.
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\((?!https?:|#)([^()\s]+)\)")


def readme_for_an_index(text: str, url: str, version: str) -> str:
    """``text`` with links to the tag of ``version`` below ``url``, as GitHub has them. Without a
    ``url`` only the text of links is left, and nothing of pictures: better than dead links."""

    def absolute(link: re.Match[str]) -> str:
        is_picture, words, path = link.groups()
        if not url:
            return "" if is_picture else words
        kind = "raw" if is_picture else "blob"
        return f"{is_picture}[{words}]({url}/{kind}/v{version}/{path})"

    return _LINK.sub(absolute, text)


def project_url() -> str:
    url = os.environ.get("PROJECT_URL", "").rstrip("/")
    if url and not re.fullmatch(r"https://[^\s/]+/[^\s?#]+", url):
        raise ValueError(
            f"PROJECT_URL={url}: not the address of a repository, like https://HOST/OWNER/NAME"
        )
    return url


class MetadataHook(MetadataHookInterface):
    """Fills what pyproject.toml lists as dynamic. An sdist has it in PKG-INFO: there it stays."""

    def update(self, metadata: dict[str, Any]) -> None:
        url = project_url()
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {
            "content-type": "text/markdown",
            "text": readme_for_an_index(text, url, metadata["version"]),
        }
        if url:
            version = metadata["version"]
            metadata["urls"] = {
                "Source": url,
                "Documentation": f"{url}/blob/v{version}/README.md",
                "Changelog": f"{url}/blob/v{version}/CHANGELOG.md",
                "Issues": f"{url}/issues",
            }
