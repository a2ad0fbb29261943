# SPDX-License-Identifier: MIT
"""Source packages of Debian, fetched from where this machine's packages come from, by an apt state of their own: the machine's
stays as it is."""

import fcntl
import pathlib
import shutil
import subprocess

KEYRINGS = [pathlib.Path("/usr/share/keyrings/debian-archive-keyring").with_suffix(end) for end in (".gpg", ".pgp")]
CONFIGURATION = """
Dir::State "PLACE/state";
Dir::State::status "PLACE/state/status";
Dir::Cache "PLACE/cache";
Dir::Etc::SourceList "PLACE/sources.list";
Dir::Etc::SourceParts "/dev/null";
APT::Sandbox::User "root";
Acquire::Retries "1";
Acquire::http::Timeout "30";
#clear APT::Update;
#clear DPkg;
"""


class Unavailable(Exception):
    """No such source is to be had here; says why."""


def run(*command, **options):
    try:
        done = subprocess.run([str(part) for part in command], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=180, **options)
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"{command[0]} took too long") from error
    if done.returncode != 0:
        raise Unavailable(f"{command[0]}: {(done.stderr or done.stdout).strip().splitlines()[-1:]}")
    return done.stdout


def sources():
    """The lines of a sources.list: the source packages beside the binary ones of this machine's own release."""
    told = run("apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT) $(ORIGIN)", "Created-By: Packages")
    keyring = next((f"[signed-by={path}] " for path in KEYRINGS if path.exists()), "")
    for line in told.splitlines():
        address, release, component, *origin = line.split()
        if component == "main" and origin == ["Debian"] and "-" not in release:
            yield f"deb-src {keyring}{address} {release} main\n"


def prepare(place):
    for folder in ("state/lists/partial", "cache/archives/partial"):
        (place / folder).mkdir(parents=True, exist_ok=True)
    (place / "state/status").touch()
    lines = sorted(set(sources()))
    if not lines:
        raise Unavailable("apt has no package source of Debian's here, or was never updated")
    (place / "sources.list").write_text("".join(lines))
    (place / "apt.conf").write_text(CONFIGURATION.replace("PLACE", str(place)))


def fetch(package, place):
    """The unpacked source of the package, of which Debian's patches are part. Kept in `place`, which may be shared."""
    for tool in ("apt-get", "dpkg-source", "patch"):
        if shutil.which(tool) is None:
            raise Unavailable(f"{tool} is not installed")
    place = pathlib.Path(place)
    place.mkdir(parents=True, exist_ok=True)
    with (place / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        target = place / package
        if target.exists():
            return target
        if not (place / "apt.conf").exists():
            prepare(place)
            run("apt-get", "-c", place / "apt.conf", "-q", "update")
        download = place / f"{package}.part"
        shutil.rmtree(download, ignore_errors=True)
        download.mkdir()
        run("apt-get", "-c", place / "apt.conf", "-q", "source", package, cwd=download)
        (unpacked,) = (path for path in download.iterdir() if path.is_dir())
        unpacked.rename(target)
        shutil.rmtree(download)
        return target
