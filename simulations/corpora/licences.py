"""Which installed packages may lend their text: an allow-list of licences, everything else refused."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable

_NAMES = "MIT MIT-0 0BSD BSD-2-Clause BSD-3-Clause Apache-2.0 BSL-1.0 ISC PSF-2.0 Zlib CC0-1.0 Unlicense"
PERMISSIVE = frozenset([*_NAMES.split(), "Apache-2.0 WITH LLVM-exception"])

# What older packages write instead of an SPDX expression.
_CLASSIFIERS = {
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD-3-Clause",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Python Software Foundation License": "PSF-2.0",
}
_FREE_TEXTS = {
    "Apache": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "Apache 2.0 License": "Apache-2.0",
    "MIT License": "MIT",
    "BSD": "BSD-3-Clause",
}


def permitted(expression: str) -> bool:
    """Say whether every part of an SPDX expression offers a permissive choice; what cannot be read is refused."""
    parts = [part.strip("() ") for part in expression.split(" AND ")]
    return all(any(choice.strip("() ") in PERMISSIVE for choice in part.split(" OR ")) for part in parts)


def licence_of(package: str) -> str:
    """Return what an installed package declares, as an SPDX expression; "unknown" if nothing clear, or no package."""
    try:
        fields = importlib.metadata.metadata(package).json
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
    return str(
        fields.get("license_expression") or declared(str(fields.get("license", "")), fields.get("classifier", []))
    )


def declared(free_text: str, classifiers: Iterable[str]) -> str:
    """Read the two older fields of a package's metadata; all licence classifiers must be known ones."""
    names = [line.rpartition(" :: ")[2] for line in classifiers if line.startswith("License :: ")]
    names = [name for name in names if name not in ("OSI Approved", "DFSG approved")]
    if names:
        return " AND ".join(_CLASSIFIERS.get(name, "unknown") for name in names)
    text = free_text.strip()
    return text if permitted(text) else _FREE_TEXTS.get(text, "unknown")
