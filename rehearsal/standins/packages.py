"""Stand-ins for NVIDIA's Debian packages, in two signed apt repositories on loopback.

`libnvidia-container` is a flat repository as NVIDIA's own, with the toolkit's four
packages; `archive` takes the part of Ubuntu's, with nvidia-utils.  The packages are
real ones made by dpkg-deb, and the signatures are real, by a key made for the run.
"""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path

from rehearsal.layer import OUTSIDE
from rehearsal.machine import Machine

from .gpu import DRIVER, OLDER_DRIVER, stand_in

TOOLKIT_VERSIONS = ("1.17.0-1", "1.18.2-1", "1.20.0-1", "1.20.1-1")
FLAVOURS = (("580", DRIVER), ("580", OLDER_DRIVER), ("580-server", DRIVER))
TOOLKIT = "libnvidia-container/stable/deb"
ARCHIVE = "archive"
_GPG = f"gpg --homedir {OUTSIDE}/gnupg --batch --quiet --yes"
_POSTINST = '#!/bin/sh\nset -e\n[ "$1" != configure ] || nvidia-ctk config --in-place\n'


@dataclass(frozen=True)
class Package:
    """A package to be made.

    Attributes:
        files: absolute path -> content; those in a bin folder become executable.
        depends: the control field.
        postinst: the script, if there is one.
    """

    name: str
    version: str
    depends: str = ""
    files: dict[str, str] = field(default_factory=dict)
    postinst: str = ""


@dataclass(frozen=True)
class Repositories:
    """What was built, below the folder that the stand-in of the world serves.

    Attributes:
        key: the armoured public key that signs both.
    """

    key: str


def toolkit(version: str) -> list[Package]:
    """Return the container toolkit's four packages of a version, depending as the real ones."""
    bare = version.partition("-")[0]
    same = "=" if [int(part) for part in bare.split(".")] >= [1, 18, 0] else ">="
    runtime = stand_in("nvidia_container_runtime").read_text().replace("@VERSION@", bare)
    hook = "#!/bin/sh\n# A stand-in of the rehearsal; the stand-in runtime needs no hook.\nexit 0\n"
    base = "nvidia-container-toolkit-base"
    library = "libnvidia-container1"
    return [
        Package(library, version),
        Package("libnvidia-container-tools", version, f"{library} ({same} {version})"),
        Package(
            base,
            version,
            "python3-minimal",
            {
                "/usr/bin/nvidia-container-runtime": runtime,
                "/usr/bin/nvidia-ctk": stand_in("nvidia_ctk").read_text(),
            },
            _POSTINST,
        ),
        Package(
            "nvidia-container-toolkit",
            version,
            f"libnvidia-container-tools ({same} {version}), {base} ({same} {version})",
            {"/usr/bin/nvidia-container-runtime-hook": hook},
        ),
    ]


def driver_tools(flavour: str, driver: str, triplet: str) -> list[Package]:
    """Return nvidia-utils and the library beside it, in a driver's version."""
    version = f"{driver}-0ubuntu0.24.04.1"
    library = f"libnvidia-compute-{flavour}"
    text = "a stand-in of the rehearsal\n"
    return [
        Package(library, version, "", {f"/usr/lib/{triplet}/libnvidia-ml.so.{driver}": text}),
        Package(
            f"nvidia-utils-{flavour}",
            version,
            f"python3-minimal, {library} (= {version})",
            {"/usr/bin/nvidia-smi": stand_in("nvidia_smi").read_text()},
        ),
    ]


def build(machine: Machine) -> Repositories:
    """Build both repositories in the machine's outside folder; a second or two."""
    arch = machine.shell("dpkg --print-architecture").strip()
    triplet = f"{machine.shell('uname -m').strip()}-linux-gnu"
    nvidia = [package for version in TOOLKIT_VERSIONS for package in toolkit(version)]
    ubuntu = [package for one in FLAVOURS for package in driver_tools(*one, triplet)]
    world = machine.outside / "world"
    for folder, packages in ((f"{TOOLKIT}/{arch}", nvidia), (ARCHIVE, ubuntu)):
        target = world / folder
        target.mkdir(parents=True)
        for package in packages:
            _lay_out(machine.outside / "packages" / folder, package, arch)
        inside = f"{OUTSIDE}/packages/{folder}"
        machine.shell(
            f"cd {inside}\n"
            "for tree in */; do\n"
            f"  dpkg-deb --root-owner-group -Znone --build $tree {OUTSIDE}/world/{folder}\n"
            "done",
            timeout=120,
        )
    key = _make_key(machine)
    (world / "libnvidia-container/gpgkey").write_text(key)
    for folder in (f"{TOOLKIT}/{arch}", ARCHIVE):
        publish(machine, folder)
    return Repositories(key)


def _lay_out(folder: Path, package: Package, arch: str) -> None:
    """Write a package's tree as dpkg-deb wants it."""
    tree = folder / f"{package.name}_{package.version}_{arch}"
    control = tree / "DEBIAN"
    control.mkdir(parents=True)
    depends = f"Depends: {package.depends}\n" if package.depends else ""
    (control / "control").write_text(
        f"Package: {package.name}\nVersion: {package.version}\nArchitecture: {arch}\n"
        f"Maintainer: the rehearsal <root@localhost>\nSection: utils\nPriority: optional\n{depends}"
        f"Description: stand-in of the rehearsal for {package.name}\n"
    )
    if package.postinst:
        (control / "postinst").write_text(package.postinst)
        (control / "postinst").chmod(0o755)
    for path, content in package.files.items():
        file = tree / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
        file.chmod(0o755 if file.parent.name == "bin" else 0o644)


def publish(machine: Machine, folder: str, *, date: float | None = None) -> None:
    """Write and sign Packages and Release of a flat repository, from the packages in it.

    Args:
        machine: whose dpkg and gpg do it.
        folder: below the folder that is served.
        date: when it says it was made, in seconds since the epoch; now if None.
    """
    target = machine.outside / "world" / folder
    path = f"{OUTSIDE}/world/{folder}"
    fields = f'cd {path}; for deb in *.deb; do echo "$deb"; dpkg-deb -f $deb; echo; done'
    stanzas = []
    for text in machine.shell(fields, timeout=60).strip().split("\n\n"):
        name, _, control = text.partition("\n")
        content = (target / name).read_bytes()
        stanzas.append(
            f"{control}\nFilename: ./{name}\nSize: {len(content)}\n"
            f"SHA256: {hashlib.sha256(content).hexdigest()}\n"
        )
    packages = "\n".join(stanzas).encode()
    (target / "Packages").write_bytes(packages)
    (target / "Packages.gz").write_bytes(gzip.compress(packages, mtime=0))
    sums = "".join(
        f" {hashlib.sha256((target / name).read_bytes()).hexdigest()}"
        f" {(target / name).stat().st_size} {name}\n"
        for name in ("Packages", "Packages.gz")
    )
    (target / "Release").write_text(
        f"Origin: rehearsal\nLabel: stand-in\nDate: {formatdate(date, usegmt=True)}\n"
        f"SHA256:\n{sums}"
    )
    machine.shell(
        f"{_GPG} --clearsign --output {path}/InRelease {path}/Release\n"
        f"gpgconf --homedir {OUTSIDE}/gnupg --kill all || true",
        timeout=60,
    )


def _make_key(machine: Machine) -> str:
    """Make the run's signing key; return its public half."""
    return machine.shell(
        f"mkdir -p -m 700 {OUTSIDE}/gnupg\n"
        f"{_GPG} --passphrase '' --quick-generate-key 'Stand-in <root@localhost>' "
        "rsa3072 sign never\n"
        f"{_GPG} --armor --export",
        timeout=120,
    )


def offer_archive(machine: Machine, url: str, key: str) -> None:
    """Give the machine the archive as an apt source, as Ubuntu's own is there from the start."""
    lines = [f" {line}" if line.strip() else " ." for line in key.splitlines()]
    machine.write(
        "/etc/apt/sources.list.d/stand-in-archive.sources",
        f"# Takes the part of Ubuntu's archive.\nTypes: deb\nURIs: {url}/{ARCHIVE}\n"
        "Suites: ./\nSigned-By:\n" + "\n".join(lines) + "\n",
    )
