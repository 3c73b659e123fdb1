"""
kqueue(2) as its manual page describes it, made of poll(2) and pidfds.

Of the filters there are EVFILT_READ, level-triggered, and EVFILT_PROC with NOTE_EXIT, which
may be added with EV_ONESHOT. A process that has exited is not there for it (ESRCH), although
its status is not read yet.
"""

import errno
import os
import select
from os import pidfd_open  # `sitecustomize` takes it away
from select import EPOLLIN, epoll

KQ_FILTER_READ, KQ_FILTER_PROC = -1, -5
KQ_EV_ADD, KQ_EV_DELETE, KQ_EV_ONESHOT = 1, 2, 0x10
KQ_NOTE_EXIT = 0x80000000

NAMES = [
    "KQ_EV_ADD", "KQ_EV_DELETE", "KQ_EV_ONESHOT", "KQ_FILTER_PROC", "KQ_FILTER_READ",
    "KQ_NOTE_EXIT", "kevent", "kqueue",
]  # fmt: skip


def is_readable(descriptor):
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    return bool(poller.poll(0))


class kevent:  # noqa: N801 - the name in `select`
    """One event, or one change."""

    def __init__(self, ident, filter=KQ_FILTER_READ, flags=KQ_EV_ADD, fflags=0):  # noqa: A002
        self.ident, self.filter, self.flags, self.fflags = ident, filter, flags, fflags


class kqueue:  # noqa: N801 - the name in `select`
    """A queue; an epoll within makes its descriptor readable while an event is pending."""

    def __init__(self):
        self._epoll = epoll()
        self._read = set()
        self._processes = {}

    def fileno(self):
        return self._epoll.fileno()

    def close(self):
        for pidfd, _ in self._processes.values():
            os.close(pidfd)
        self._processes.clear()
        self._epoll.close()

    def control(self, changes, most, timeout=None):
        for change in changes or ():
            if change.filter == KQ_FILTER_PROC:
                self._change_process(change)
            else:
                self._change_descriptor(change)
        if not most:
            return []
        ready = [one for one, _ in self._epoll.poll(timeout or 0, most)]
        return [self._event(one) for one in ready]

    def _change_descriptor(self, change):
        if change.flags & KQ_EV_DELETE:
            if change.ident not in self._read:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            self._read.remove(change.ident)
            self._epoll.unregister(change.ident)
        elif change.ident not in self._read:
            self._epoll.register(change.ident, EPOLLIN)
            self._read.add(change.ident)

    def _change_process(self, change):
        assert change.flags & KQ_EV_ADD
        assert change.fflags == KQ_NOTE_EXIT
        pidfd = pidfd_open(change.ident)
        if is_readable(pidfd):
            os.close(pidfd)
            raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
        self._epoll.register(pidfd, EPOLLIN)
        self._processes[change.ident] = pidfd, change.flags & KQ_EV_ONESHOT

    def _event(self, descriptor):
        for pid, (pidfd, is_once) in list(self._processes.items()):
            if pidfd == descriptor:
                if is_once:
                    self._epoll.unregister(pidfd)
                    os.close(pidfd)
                    del self._processes[pid]
                return kevent(pid, KQ_FILTER_PROC, 0, KQ_NOTE_EXIT)
        return kevent(descriptor, KQ_FILTER_READ, 0)
