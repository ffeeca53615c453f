"""The filter of system calls as a program, for both processors, on whatever machine the tests run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gradviz_cli.process.sandbox.kernel import MACHINES
from gradviz_cli.process.sandbox.seccomp import _ABSENT, _JUDGED, _LAST_KNOWN, _REFUSED, _on, _program

ALLOW, KILL, EPERM, ENOSYS, ENOENT = 0x7FFF0000, 0x80000000, 0x50001, 0x50026, 0x50002
PROCESS = 4321


def _answer(program, audit: int, number: int, *arguments: int) -> int:
    """Interpret classic BPF over struct seccomp_data (little endian), as the kernel would."""
    words = {0: number, 4: audit}
    for i in range(6):
        value = arguments[i] if i < len(arguments) else 0
        words[16 + 8 * i], words[20 + 8 * i] = value & 0xFFFFFFFF, value >> 32 & 0xFFFFFFFF
    accumulator, at = 0, 0
    while True:
        operation, jump_true, jump_false, k = program[at]
        at += 1
        if operation == 0x06:
            return k
        if operation == 0x20:
            accumulator = words[k]
        elif operation == 0x54:
            accumulator &= k
        else:
            holds = {0x15: accumulator == k, 0x25: accumulator > k, 0x45: bool(accumulator & k)}[operation]
            at += jump_true if holds else jump_false


@pytest.fixture(params=["x86_64", "aarch64"])
def ask(request):
    """A function: number of a call, arguments -> the filter's answer."""
    machine = MACHINES[request.param]
    program = _program(machine, PROCESS)
    assert len(program) <= 4096  # BPF_MAXINSNS
    ask = lambda number, *arguments: _answer(program, machine.audit, number, *arguments)  # noqa: E731
    ask.machine, ask.program = machine, program
    ask.number = lambda name: {
        **_on(machine, _REFUSED),
        **_on(machine, _JUDGED),
        **_on(machine, _ABSENT),
    }[name]
    return ask


def test_filter_refuses_every_call_of_the_table(ask):
    for number in _on(ask.machine, _REFUSED).values():
        assert ask(number) == EPERM
    for number in _on(ask.machine, _ABSENT).values():
        assert ask(number) == ENOSYS


def test_filter_allows_what_is_not_named(ask):
    named = {n for t in (_REFUSED, _JUDGED, _ABSENT) for n in _on(ask.machine, t).values()}
    others = set(range(_LAST_KNOWN + 1)) - named
    assert len(others) > 200
    assert {ask(number) for number in others} == {ALLOW}
    unknown = [_LAST_KNOWN + 1, 600, 1 << 30, 1 << 30 | 41, 0xFFFFFFFF]
    assert {ask(number) for number in unknown} == {ENOSYS}


def test_filter_ends_a_foreign_calling_convention(ask):
    for foreign in (0x40000003, 0x40000028, 0):  # i386, arm
        assert _answer(ask.program, foreign, 0) == KILL


def test_filter_judges_arguments(ask):
    thread, process = 0x3D0F00, 0x1200011
    clone = ask.number("clone")
    assert (ask(clone, thread), ask(clone, process)) == (ALLOW, EPERM)
    for name in ("kill", "tgkill"):
        number = ask.number(name)
        assert ask(number, PROCESS, 6, 6) == ALLOW
        assert {ask(number, other) for other in (0, 1, PROCESS + 1, 2**32 - 1, 2**64 - PROCESS)} == {EPERM}
    limits = ask.number("prlimit64")
    assert [ask(limits, pid) for pid in (0, PROCESS, 1)] == [ALLOW, ALLOW, EPERM]
    ioctl = ask.number("ioctl")
    assert [ask(ioctl, 0, c) for c in (0x5401, 0x5412, 0x541C, 0xFFFFFFFF00005412)] == [
        ALLOW,
        EPERM,
        EPERM,
        EPERM,
    ]
    fcntl = ask.number("fcntl")
    assert [ask(fcntl, 0, c) for c in (1, 3, 8, 10, 15, 1030)] == [ALLOW, ALLOW, EPERM, EPERM, EPERM, ALLOW]
    assert {ask(fcntl, 0, c) for c in (6, 7, 37, 38, 1024, 1026)} == {EPERM}
    assert [ask(ask.number("prctl"), o) for o in (15, 1, 4, 36, 62)] == [ALLOW, EPERM, EPERM, EPERM, EPERM]
    affinity = ask.number("sched_setaffinity")
    assert [ask(affinity, pid) for pid in (0, PROCESS, PROCESS - 1)] == [ALLOW, ALLOW, EPERM]
    private, shared, anonymous, fixed = 2, 1, 0x20, 0x10
    mapped = [private, private | anonymous, shared, shared | fixed, shared | anonymous, shared | anonymous | fixed]
    assert [ask(ask.number("mmap"), 0, 4096, 3, flags) for flags in mapped] == [ALLOW] * 4 + [EPERM] * 2


def test_filter_lets_the_driver_of_a_gpu_work_and_reach_nobody(ask):
    program = _program(ask.machine, PROCESS, gpu=True)
    answer = lambda name, *arguments: _answer(program, ask.machine.audit, ask.number(name), *arguments)  # noqa: E731
    unix, internet, stream, datagram, packets, closed = 1, 2, 1, 2, 5, 0o2000000
    kinds = [(unix, packets), (unix, packets | closed), (unix, stream), (unix, datagram | closed), (internet, packets)]
    assert [answer("socket", *kind) for kind in kinds] == [ALLOW, ALLOW, EPERM, EPERM, EPERM]
    assert (answer("connect", 3), answer("accept", 3), answer("accept4", 3)) == (ENOENT, EPERM, EPERM)
    assert {answer(name, 3) for name in ("bind", "listen")} == {ALLOW}
    assert {answer("mmap", 0, 4096, 3, flags) for flags in (0x2, 0x21, 0x31)} == {ALLOW}
    option = {0: 54, 1: 208}[ask.machine.column]  # setsockopt
    asked = [_answer(program, ask.machine.audit, option, 3, 1, name) for name in (7, 26, 50, 51, 52)]
    assert asked == [ALLOW, EPERM, EPERM, EPERM, EPERM]
    freed = {"socket", "connect", "bind", "listen"}
    assert {answer(name) for name in set(_on(ask.machine, _REFUSED)) - freed} == {EPERM}
    others = set(_on(ask.machine, _JUDGED)) - {"mmap"}
    for name in others:  # and whatever is judged is judged as ever
        for arguments in ((0,) * 4, (PROCESS,) * 4, (3, 0x5412, 3, 0x21), (0, 8, 0o1000, 0)):
            assert answer(name, *arguments) == ask(ask.number(name), *arguments)


def test_filter_lets_no_file_be_emptied_that_is_not_opened_for_writing(ask):
    read, write, both, neither, empty, other = 0, 1, 2, 3, 0o1000, 0o2000000
    opens = [(ask.number("openat"), (0, 0))]
    if ask.machine.column == 0:
        opens.append((ask.number("open"), (0,)))
    for number, before in opens:
        for flags in (read, write, both, write | empty, both | empty):
            assert ask(number, *before, flags | other) == ALLOW
        for flags in (read | empty, neither, neither | empty):
            assert ask(number, *before, flags | other) == EPERM


@pytest.mark.parametrize("name", ["x86_64", "aarch64"])
def test_numbers_agree_with_the_kernels_headers(name):
    """The generic table is the one of aarch64; calls newer than the headers are left out."""
    places = {
        "x86_64": ["x86_64-linux-gnu/asm/unistd_64.h", "asm/unistd_64.h"],
        "aarch64": ["asm-generic/unistd.h"],
    }[name]
    header = next((p for p in (Path("/usr/include") / q for q in places) if p.is_file()), None)
    if header is None:
        pytest.skip("no kernel headers on this machine")
    known = dict(re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", header.read_text()))
    known |= {"seccomp": known["seccomp"]}
    for table in (_REFUSED, _JUDGED, _ABSENT):
        for call, number in _on(MACHINES[name], table).items():
            assert int(known.get(call, number)) == number, call
            assert call in known or number > 440, call
        absent = set(table) - set(_on(MACHINES[name], table))
        assert not absent & set(known)
    assert MACHINES[name].seccomp == int(known["seccomp"])
