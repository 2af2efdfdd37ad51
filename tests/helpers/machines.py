"""Machines for tests, made of Linux namespaces: addresses, host names, processes, /tmp and a home.

They are on one switch, reach each other and nothing else, and see this machine's other files. All
that runs on one ends with it: whatever is started there, Ray's own processes included, cannot stay
behind, and a `ray stop` there ends no process of this machine. They need root.
"""

import contextlib
import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from tests.helpers.program import environment
from tests.helpers.waiting import wait_until

HOME = "/home/root"
"""Home of root on a machine, empty at first."""
SWITCH = "10.77.0.254"
NOTHING: Mapping[str, str] = MappingProxyType({})

_BOOT = """
set -e
hostname "$1"
mount -t tmpfs tmpfs /mnt && mkdir /mnt/shared && mount --bind "$2" /mnt/shared
for fresh in /tmp /home /run /dev/shm; do mount -t tmpfs tmpfs "$fresh"; done
mkdir -p "$2" "$HOME" /run/sshd && chmod 1777 /tmp /dev/shm && chmod 700 "$HOME"
mount --move /mnt/shared "$2"
mount --bind "$2/hosts" /etc/hosts
mount --bind "$2/passwd" /etc/passwd
touch /run/booted
exec "$3" -S -c "$4"
"""
_INIT = "import signal as s\ns.signal(s.SIGCHLD, s.SIG_IGN)\nwhile True: s.pause()"
"""Process 1 of a machine, which leaves no ended process behind."""


@functools.cache
def has_namespaces() -> bool:
    """Returns whether this process may make machines."""
    probe = ["unshare", "--net", "--mount", "--uts", "--pid", "--fork", "true"]
    programs = all(map(shutil.which, ("unshare", "nsenter", "ip", "setpriv")))
    return programs and subprocess.run(probe, capture_output=True, check=False).returncode == 0


class Machine:
    """A running machine."""

    def __init__(self, name: str, address: str, shared: Path) -> None:
        """Boots it.

        Args:
            name: its host name.
            address: its address, at which it is reached once it is connected.
            shared: directory that it shares with all others, at the same path.
        """
        self.name, self.address = name, address
        self.environ = environment(HOME=HOME, USER="root", LOGNAME="root") | {"SHELL": "/bin/bash"}
        namespaces = ["--net", "--mount", "--uts", "--pid", "--fork", "--kill-child"]
        boot = ["sh", "-c", _BOOT, "boot", name, str(shared), sys.executable, _INIT]
        self._holder = subprocess.Popen(
            # Off when this process ends, however it does.
            ["setpriv", "--pdeathsig=KILL", "unshare", *namespaces, "--mount-proc", *boot],
            env=self.environ,
            start_new_session=True,
        )
        children = Path(f"/proc/{self._holder.pid}/task/{self._holder.pid}/children")
        wait_until(lambda: children.read_text().strip())
        self.pid = int(children.read_text())
        wait_until(lambda: Path(f"/proc/{self.pid}/root/run/booted").exists())

    def command(self, *words: str, only_network: bool = False) -> list[str]:
        """Returns the command that runs another one on the machine."""
        spaces = ["--net"] if only_network else ["--net", "--mount", "--uts", "--pid"]
        return ["nsenter", "--target", str(self.pid), *spaces, "--", *words]

    def start(
        self, *words: str, log: Path, env: Mapping[str, str] = NOTHING
    ) -> "subprocess.Popen[bytes]":
        """Starts a program there, with its output in a file.

        Args:
            words: the command.
            log: file to which the output is added.
            env: changes to the environment; likewise below.
        """
        with log.open("ab") as file:
            return subprocess.Popen(
                self.command(*words),
                env={**self.environ, **env},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def run(
        self,
        *words: str,
        cwd: Path | None = None,
        timeout_s: float = 60.0,
        env: Mapping[str, str] = NOTHING,
    ) -> "subprocess.CompletedProcess[str]":
        """Runs a program there to its end."""
        inside = ["env", f"--chdir={cwd}", *words] if cwd else list(words)
        return subprocess.run(
            self.command(*inside),
            env={**self.environ, **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def off(self) -> None:
        """Switches the machine off, with everything that runs on it."""
        self._holder.kill()
        self._holder.wait()


@contextlib.contextmanager
def machines(names: Sequence[str], shared: Path) -> Iterator[list[Machine]]:
    """Provides machines inside the block; they are off afterwards.

    Args:
        names: their host names; their addresses are 10.77.0.1, 10.77.0.2 and so on.
        shared: existing directory that all share.
    """
    hosts = [(name, f"10.77.0.{number}") for number, name in enumerate(names, 1)]
    lines = ["127.0.0.1 localhost", *(f"{address} {name}" for name, address in hosts)]
    (shared / "hosts").write_text("\n".join(lines) + "\n")
    # Programs such as sshd take the home from here, and the user whose files they read.
    users = Path("/etc/passwd").read_text().splitlines()
    others = [line for line in users if not line.startswith("root:")]
    root = f"root:x:0:0:root:{HOME}:/bin/bash"
    (shared / "passwd").write_text("\n".join([root, *others]) + "\n")
    with contextlib.ExitStack() as stack:
        switch = Machine("switch", SWITCH, shared)
        stack.callback(switch.off)
        in_switch = switch.command("ip", only_network=True)
        _ip(*in_switch, "link", "add", "br0", "type", "bridge")
        _ip(*in_switch, "address", "add", f"{SWITCH}/24", "dev", "br0")
        _ip(*in_switch, "link", "set", "br0", "up")
        booted = []
        for name, address in hosts:
            machine = Machine(name, address, shared)
            stack.callback(machine.off)
            booted.append(machine)
            pair = ["link", "add", name, "type", "veth", "peer", "name", "eth0"]
            _ip(*in_switch, *pair, "netns", str(machine.pid))
            _ip(*in_switch, "link", "set", name, "master", "br0", "up")
            inside = machine.command("ip", only_network=True)
            _ip(*inside, "link", "set", "lo", "up")
            _ip(*inside, "address", "add", f"{address}/24", "dev", "eth0")
            _ip(*inside, "link", "set", "eth0", "up")
            # Programs find their own address by the way to the rest of the world.
            _ip(*inside, "route", "add", "default", "via", SWITCH)
        yield booted


def _ip(*words: str) -> None:
    subprocess.run(words, check=True, env=os.environ)
