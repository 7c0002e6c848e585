"""What the command line says to the hardware: a unix socket of whole messages, each a JSON object and,
beside it, descriptors."""
import array
import json
import os
import socket

MESSAGE_MAX = 192 * 1024  # a command with all its arguments and environment
FDS_MAX = 3


def connect(path):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * MESSAGE_MAX)
    s.connect(path)
    return s


def send(s, message, fds=()):
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    s.sendmsg([json.dumps(message).encode()], ancillary)


def receive(s):
    """(message, descriptors); (None, []) once the other side is gone."""
    fds = array.array("i")
    try:
        data, ancillary, flags, _ = s.recvmsg(MESSAGE_MAX, socket.CMSG_SPACE(FDS_MAX * fds.itemsize),
                                              socket.MSG_CMSG_CLOEXEC)
    except ConnectionResetError:
        return None, []
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(content[:len(content) - len(content) % fds.itemsize])
    if not data or flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
        for fd in fds:
            os.close(fd)
        return None, []
    return json.loads(data), list(fds)
