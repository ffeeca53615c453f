"""Attacks of a child process on what surrounds it: name -> Python statement, which raises OSError where it is refused.

`w` holds the paths, ports and process ids of the world that each child gets (`hostile/confinement.py`); `w.outside` and
`w.model` hold a canary file for each attack, `w.canary` is its name.
"""

from __future__ import annotations

WRITES = {
    "write": "open(w.outside + w.canary, 'w').write('x')",
    "write by a relative path": "open('../outside' + w.canary, 'w').write('x')",
    "append": "open(w.outside + w.canary, 'a').write('x')",
    "write through a link in the scratch folder": "open(w.scratch + '/outside' + w.canary, 'w').write('x')",
    "write into the model": "open(w.model + w.canary, 'w').write('x')",
    "write into the package": "create_and_remove(w.package)",
    "write into the home folder": "open(w.home + '/.profile', 'w').write('x')",
    "write into /tmp": "create_and_remove('/tmp')",
    "write into /dev/shm": "create_and_remove('/dev/shm')",
    "empty on opening": "os.open(w.outside + w.canary, os.O_WRONLY | os.O_TRUNC)",
    "empty on opening to read": "os.open(w.model + w.canary, os.O_RDONLY | os.O_TRUNC)",
    "empty on opening for neither": "os.open(w.model + w.canary, 3 | os.O_TRUNC)",
    "truncate": "os.truncate(w.model + w.canary, 0)",
    "rename over": "os.rename(w.scratch + '/mine', w.outside + w.canary)",
    "rename away": "os.rename(w.outside + w.canary, w.scratch + '/taken')",
    "link into the scratch folder": "os.link(w.outside + w.canary, w.scratch + '/linked')",
    "unlink": "os.unlink(w.outside + w.canary)",
    "remove a folder": "os.rmdir(w.outside + '/empty_folder')",
    "make a folder": "os.mkdir(w.outside + '/made_folder')",
    "make a link": "os.symlink('/etc/passwd', w.scratch + '/made_link')",
    "make a fifo": "os.mkfifo(w.scratch + '/made_fifo')",
    "change the mode": "os.chmod(w.outside + w.canary, 0o777)",
    "change the owner": "os.chown(w.outside + w.canary, os.getuid(), os.getgid())",
    "change the times": "os.utime(w.outside + w.canary, (1, 1))",
}
READS = {
    "read /etc/passwd": "open('/etc/passwd').read()",
    "read beside the model": "open(w.model + '/../beside_model').read()",
    "list beside the model": "os.listdir(w.model + '/..')",
    "read a key in the home folder": "open(w.home + '/.ssh/id_ed25519').read()",
    "read through a link in the scratch folder": "open(w.scratch + '/outside' + w.canary).read()",
    "read through a link in the model": "open(w.model + '/link_to_key').read()",
    "read through an inherited folder": "os.open('.' + w.canary, os.O_RDONLY, dir_fd=w.outside_folder)",
    "read the environment of a process": "open(f'/proc/{w.victim}/environ').read()",
    "read the command of a process": "open(f'/proc/{w.victim}/cmdline').read()",
}
NETWORK = {
    "connect by TCP": "socket.create_connection(('127.0.0.1', w.port), 5)",
    "listen": "socket.create_server(('127.0.0.1', 0))",
    "send by UDP": "socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', w.port))",
    "connect to a unix socket": "socket.socket(socket.AF_UNIX).connect(w.unix_socket)",
    "connect to an abstract socket": "socket.socket(socket.AF_UNIX).connect(chr(0) + w.unique)",
    "connect to a service of packets": "socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET).connect(w.packets)",
    "connect an inherited socket": "socket.socket(fileno=os.dup(w.socket)).connect(('127.0.0.1', w.port))",
    "pair of sockets": "socket.socketpair()",
}
PROCESSES = {
    "run a program": "subprocess.run(['/bin/sh', '-c', 'exit 0'], check=True)",
    "spawn a program": "os.waitpid(os.posix_spawn('/bin/sh', ['sh', '-c', 'exit 0'], {}), 0)",
    "fork": "os.fork() or os._exit(0)",
    "signal a process": "os.kill(w.victim, signal.SIGWINCH)",
    "signal the parent": "os.kill(os.getppid(), 0)",
    "signal the process group": "os.kill(0, 0)",
    "limit a process": "resource.prlimit(w.victim, resource.RLIMIT_CORE, (0, 0))",
    "slow down a process": "os.setpriority(os.PRIO_PROCESS, w.victim, 5)",
    "send signals through a descriptor": "fcntl.fcntl(w.pipe, fcntl.F_SETOWN, os.getppid())",
    "outlive the parent": "check(libc.prctl(1, 0, 0, 0, 0))",
    "watch a folder": "check(libc.inotify_init())",
    "move the parent to another processor": "os.sched_setaffinity(os.getppid(), os.sched_getaffinity(os.getppid()))",
    "become a subreaper": "check(libc.prctl(36, 1, 0, 0, 0))",
    "lock a file that others lock": "fcntl.flock(os.open(w.model + w.canary, os.O_RDONLY), fcntl.LOCK_EX | fcntl.LOCK_NB)",
    "lock a part of a file": "fcntl.lockf(os.open(w.model + w.canary, os.O_RDONLY), fcntl.LOCK_SH | fcntl.LOCK_NB)",
    "wait for all disks": "check(libc.syscall(267 if w.arm else 306, w.outside_folder))",
}
MEMORY = {
    "a file in memory": "os.memfd_create('x')",
    "shared memory without a name": "mmap.mmap(-1, 4096, mmap.MAP_SHARED | mmap.MAP_ANONYMOUS)",
    "move pages of a pipe": "os.splice(os.open(w.model + w.canary, os.O_RDONLY), os.pipe()[1], 6)",
    "read and write behind the call": (
        "ring = ctypes.c_ulong()\ncheck(libc.syscall(0 if w.arm else 206, 1, ctypes.byref(ring)))"
    ),
}
# What a kernel, a container or the lack of root may refuse without our help.
PERHAPS = {
    "read attributes": "os.listxattr(w.outside + w.canary)",
    "change flags": "fcntl.ioctl(os.open(w.model + w.canary, os.O_RDONLY), 0x40086602, struct.pack('l', 0x40))",
    "lease a file": "fcntl.fcntl(os.open(w.model + w.canary, os.O_RDONLY), 1024, fcntl.F_RDLCK)",
    "share a core with a process": "check(libc.prctl(62, 2, w.victim, 0, 0))",
    "change an attribute": "os.setxattr(w.outside + w.canary, 'user.gradviz', b'x')",
    "read the environment of process 1": "open('/proc/1/environ').read()",
    "open a process": "os.pidfd_open(w.victim)",
    "trace a process": "check(libc.ptrace(0x4206, w.victim, None, None))",
    "type into the terminal": "fcntl.ioctl(w.terminal, termios.TIOCSTI, b'x')",
    "shared memory": "check(libc.shmctl(check(libc.shmget(0, 4096, 0o1600)), 0, None))",
    "io_uring": "check(libc.syscall(425, 1, ctypes.create_string_buffer(120)))",
    "keyring": "check(libc.syscall(219 if w.arm else 250, 0, -2, 1))",
    "handle page faults": "check(libc.syscall(282 if w.arm else 323, 1))",
    "fork by clone3": "check(libc.syscall(435, struct.pack('32xQ24x', 17), 64)) or os._exit(0)",
    "empty by openat2": (
        "path = (w.model + w.canary).encode()\n"
        "check(libc.syscall(437, -100, path, struct.pack('Q16x', os.O_TRUNC), 24))"
    ),
    "count events": "check(libc.syscall(241 if w.arm else 298, struct.pack('II112x', 1, 120), 0, -1, -1, 0))",
}
ATTACKS = WRITES | READS | NETWORK | PROCESSES | MEMORY | PERHAPS
REFUSALS = {"EPERM", "EACCES", "EXDEV", "ENOSYS"}
