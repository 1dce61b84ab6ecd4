"""Images for pods, built here and put where the node finds them. No registry is asked."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.support.kubernetes import parts
from tests.support.kubernetes.access import command

BASE = "localhost/debian-python:12"
# Of this machine, and never in the image: what pip needs to reach its index.
_OF_HOST = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pip.conf")
_MANY_IMAGES = 40


async def build(context: Path, tag: str, environment: Mapping[str, str]) -> None:
    """Build `context`/Containerfile on our base image; layers are kept for the next time."""
    await _forget_many(environment)
    where = ("--isolation=chroot", "--network=host", "--pull-never", "--layers")
    what = (f"--build-arg=BASE={BASE}", f"--file={context / 'Containerfile'}", f"--tag={tag}")
    await _buildah("bud", _policy(), *where, *_volumes(), *what, str(context), env=environment)


async def load(
    tag: str, folder: Path, containerd: Sequence[str], environment: Mapping[str, str]
) -> None:
    """Give a built image to the containerd that `containerd` (a `ctr` command) talks to."""
    archive = folder / "image.tar"
    await _buildah("push", _policy(), tag, f"docker-archive:{archive}:{tag}", env=environment)
    await command(*containerd, "images", "import", str(archive), env=environment)
    archive.unlink()


async def _forget_many(environment: Mapping[str, str]) -> None:
    """Drop the layers of old builds, when there are many: each holds a copy of our code."""
    images = (await _buildah("images", "--all", "--quiet", "--no-trunc", env=environment)).split()
    if len(images) > _MANY_IMAGES:
        base = (await _buildah("images", "--quiet", "--no-trunc", BASE, env=environment)).split()
        old = [image for image in dict.fromkeys(images) if image not in base]
        await _buildah("rmi", "--force", *old, env=environment)


def _volumes() -> list[str]:
    return [f"--volume={path}:{path}:ro" for path in _OF_HOST if Path(path).exists()]


def _policy() -> str:
    return f"--signature-policy={parts.CONFIG / 'image-policy.json'}"


async def _buildah(verb: str, *words: str, env: Mapping[str, str]) -> str:
    store = parts.folders("cluster")["base"]
    where = (f"--root={store / 'images'}", f"--runroot={store / 'run'}", "--storage-driver=overlay")
    # What it mounts goes with it, even when it is killed.
    return await command("unshare", "--mount", "buildah", *where, verb, *words, env=env)
