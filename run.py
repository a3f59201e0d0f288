"""Runs enrichlog from a checkout with nothing but Python 3.11 or later: sets up an environment of its own, once.

    python3 run.py                   the demo
    python3 run.py test [ARGUMENT…]  the tests; arguments go to pytest
    python3 run.py COMMAND …         any other command, as `enrichlog COMMAND …`

The environment is .venv beside this file, or the folder that ENRICHLOG_VENV names.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 (an older Python gets this line instead of a traceback)
    sys.exit(f"enrichlog needs Python 3.11 or later, this is {sys.version.split()[0]}. Try: python3.11 run.py")

import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NoReturn

import bootstrap_pip

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

CHECKOUT = Path(__file__).resolve().parent
VENV = Path(os.environ.get("ENRICHLOG_VENV") or CHECKOUT / ".venv").expanduser().absolute()
PYTHON = VENV / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
STAMP = VENV / "enrichlog-setup"  # marks the folder as ours, says what is set up in it, is locked while that changes
SIDE_BY_SIDE = ("-n", "2", "--dist", "loadfile")  # the tests wait as much as they compute; -n 0 behind it takes turns
LOCKS = {"run": "requirements.lock", "test": "requirements-dev.lock"}  # the second holds all of the first


class SetupFailed(Exception):
    """The environment could not be set up; the text says why and what to do next."""


def main(words: list[str]) -> NoReturn:
    """Sets up what the words need and becomes that command, so its exit code and signals are its own."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # an exception, so that a pip under way ends too
    purpose = "test" if words[:1] == ["test"] else "run"
    try:
        set_up(purpose)
    except KeyboardInterrupt:
        sys.exit(130)
    except (SetupFailed, OSError) as error:
        sys.exit(f"run.py: {error}")
    if purpose == "test":
        os.chdir(CHECKOUT)  # pytest finds its settings there
        become([str(PYTHON), "-m", "pytest", *SIDE_BY_SIDE, *words[1:]])
    become([str(PYTHON), str(CHECKOUT / "cli.py"), *(words or ["demo"])])


def set_up(purpose: str) -> None:
    """Makes the environment serve the purpose, unless it does already; two at once take turns."""
    if STAMP.is_file() and serves(STAMP.read_text(encoding="utf-8"), purpose):
        return
    with locked_stamp() as stamp:
        state = stamp.read()
        if serves(state, purpose):
            return
        say(f"Setting up {VENV} (once, about a minute) …")
        began = time.monotonic()
        write(stamp, "unfinished")  # whatever stops us now, the next run starts afresh
        if not serves(state, "run"):
            make_environment()
        install(LOCKS[purpose], stamp)
        write(stamp, f"{purpose} {digest()}")
        say(f"Ready after {time.monotonic() - began:.0f} s.")


def serves(state: str, purpose: str) -> bool:
    """Whether an environment with this stamp has all that the purpose needs, and is of this Python and these locks."""
    return state in (f"{purpose} {digest()}", f"test {digest()}") and PYTHON.exists()


def digest() -> str:
    """A fingerprint of what the environment is made from."""
    made_from = [f"{sys.version_info[:2]} {sys.base_prefix}".encode()]
    made_from += [(CHECKOUT / lock).read_bytes() for lock in LOCKS.values()]
    return hashlib.sha256(b"\0".join(made_from)).hexdigest()


@contextlib.contextmanager
def locked_stamp() -> Iterator[IO[str]]:
    """The stamp, open and locked; makes the folder if it is not there."""
    try:
        VENV.mkdir(parents=True, exist_ok=True)
        there = [entry.name for entry in VENV.iterdir()]
        if there and STAMP.name not in there:
            raise SetupFailed(f"{VENV} was not made by run.py. Remove it, or set ENRICHLOG_VENV to another place.")
        stamp = STAMP.open("a+", encoding="utf-8")
    except OSError as error:
        raise SetupFailed(f"{error}. Set ENRICHLOG_VENV to a folder that can be written.") from error
    with stamp:
        if not lock(stamp):
            say("Waiting for another setup of the same environment …")
            while not lock(stamp):
                time.sleep(0.2)
        stamp.seek(0)
        yield stamp


def lock(file: IO[str]) -> bool:
    """Whether we got the file for ourselves; closing it gives it back."""
    try:
        if sys.platform == "win32":
            file.seek(1 << 20)  # beyond the text, or Windows would not let others read it
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def write(stamp: IO[str], text: str) -> None:
    """Replaces the stamp's text."""
    stamp.truncate(0)
    stamp.write(text)
    stamp.flush()


def make_environment() -> None:
    """Makes an empty virtual environment in place of whatever an earlier setup left."""
    for entry in VENV.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry != STAMP:
            entry.unlink()
    done = subprocess.run([sys.executable, "-m", "venv", "--without-pip", VENV], capture_output=True, text=True)
    if done.returncode:
        raise SetupFailed(f"python -m venv failed: {tail(done.stderr)}\nInstall python3-venv and try again.")


def install(requirements: str, stamp: IO[str]) -> None:
    """Installs a lock file's packages."""
    try:
        pip = bootstrap_pip.find_pip(str(PYTHON), VENV)
    except bootstrap_pip.NoPip as error:
        raise SetupFailed(
            f"This Python has no pip, and none could be had:\n{error}\n"
            "Install one (as root: apt-get install python3-venv), or set PIP_INDEX_URL, and try again."
        ) from error
    command = [*pip, "install", "--no-user", "--no-input", "--disable-pip-version-check", "--progress-bar", "off"]
    keeps_lock = () if sys.platform == "win32" else (stamp.fileno(),)  # a pip that outlives us is waited for
    done = subprocess.run(
        [*command, "-r", CHECKOUT / requirements],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        pass_fds=keeps_lock,
    )
    if done.returncode:
        raise SetupFailed(
            f"the packages could not be installed:\n{tail(done.stdout)}\n"
            "Next: see that the network is there and that pip's settings (PIP_INDEX_URL, PIP_CERT, pip.conf) name an "
            "index that can be reached and trusted, and try again."
        )


def tail(text: str, lines: int = 20) -> str:
    """The last lines of a text."""
    return "\n".join(text.strip().splitlines()[-lines:])


def say(text: str) -> None:
    """One line for the person waiting; stdout stays free for the command's own output."""
    print(text, file=sys.stderr, flush=True)


def become(command: list[str]) -> NoReturn:
    """Replaces this process by the command; Windows cannot, there it is waited for."""
    if sys.platform == "win32":
        sys.exit(subprocess.call(command))
    os.execv(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
